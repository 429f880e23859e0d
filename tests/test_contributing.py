"""CONTRIBUTING.md does what it says."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.baselines import detectors
from ubt_utils.ubt.defense import Defense

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = [part.split("```")[0] for part in TEXT.split("```python\n")[1:]]


def test_the_new_attack_works_as_it_stands():
    code = next(example for example in EXAMPLES if "Trigger" in example)
    assert len(code.strip().splitlines()) <= 14
    names: dict = {"dataclass": dataclass, "Trigger": Trigger, "ClassVar": ClassVar, "torch": torch}
    exec(code, names)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    trigger = names["Invert"](alpha=1.0)
    torch.testing.assert_close(trigger(images), 1 - images)
    assert trigger.spec() == {"name": "invert", "alpha": 1.0} and trigger.scaled(0.5).alpha == 0.5
    assert names["Invert"] in triggers.named(Trigger) and "invert" not in triggers.TRIGGERS


def test_the_new_defense_works_as_it_stands():
    def mine(*_: object) -> None:
        """Nothing."""

    names: dict = {"Defense": Defense, "mine": mine}
    exec(next(example for example in EXAMPLES if "DEFENSES" in example), names)
    (entry,) = names["DEFENSES"]
    assert (entry.name, entry.run, entry.sees) == ("mine", mine, ("D_safe",)) and not entry.is_ubt


def test_the_lists_of_detectors_are_where_it_says():
    assert detectors.FROM_SIMILARITIES and detectors.FROM_EMBEDDINGS
    assert detectors.DETECTORS == detectors.FROM_SIMILARITIES | detectors.FROM_EMBEDDINGS


def test_the_map_has_every_room():
    named = set(re.findall(r"^\| `(\w+)/` \|", TEXT, re.M))
    rooms = {path.parent.name for path in (ROOT / "ubt_utils").glob("*/__init__.py")}
    assert named == rooms


def test_the_commands_exist():
    made = set(re.findall(r"`make (\w+)", TEXT)) | set(re.findall(r"^make (\w+)", TEXT, re.M))
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    assert made and made <= set(targets)
    from ubt_utils.__main__ import ALONE, STAGES

    called = set(re.findall(r"python -m ubt_utils (\w+)", TEXT))
    assert called and called <= set(STAGES | ALONE)


def test_the_files_exist():
    named = set(re.findall(r"`((?:ubt_utils|tests|results|ubt|profiles)/[\w./]+)`", TEXT))
    assert len(named) > 5
    assert [n for n in named if not (ROOT / n).exists() and not (ROOT / "ubt_utils" / n).exists()] == []


def test_every_time_was_measured():
    assert re.findall(r"\b[A-Z]+_TIME\b", TEXT) == []
