"""The files around the package agree with each other and with the records."""

import json
import re
import subprocess
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ubt_utils import profiles
from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.report import attack_tables, benchmark_tables, defense_tables, profile_tables, tables
from ubt_utils.study import matrix, sweep, tuning

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): pin for name, pin in pins}


def requirements() -> list[Requirement]:
    extras = [r for name, rs in PROJECT["optional-dependencies"].items() if name != "all" for r in rs]
    return [Requirement(r) for r in PROJECT["dependencies"] + extras]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_requirement_is_pinned_in_the_lock_within_its_bounds(requirement):
    pin = lock()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)
    assert version(requirement.name).split("+")[0] == pin.split("+")[0]


def test_environment_yml_is_only_a_door_to_pyproject_and_lock():
    text = (ROOT / "environment.yml").read_text()
    assert "-c requirements.lock" in text and "-e .[all]" in text
    python = re.search(r"python=([\d.]+)", text).group(1)
    assert PROJECT["requires-python"] == f">={python}"
    named = set(re.findall(r"^\s+- ([a-z]+)", text, re.M))
    assert named == {"python", "pip"}


def test_all_gathers_every_extra():
    extras = set(PROJECT["optional-dependencies"]) - {"all"}
    assert PROJECT["optional-dependencies"]["all"] == [f"ubt-utils[{','.join(sorted(extras))}]"]


def test_modules_are_small():
    long = {p.name: len(p.read_text().splitlines()) for p in (ROOT / "ubt_utils").rglob("*.py")}
    assert {name: n for name, n in long.items() if n > 250} == {}


@pytest.mark.parametrize("words", [["--dry-run"], ["mini", "--dry-run"]])
def test_data_download_dry_run_names_sizes_and_licences(words):
    done = subprocess.run([ROOT / "data_download.sh", *words], capture_output=True, text=True)
    assert done.returncode == 0 and "MB" in done.stdout and "CC-BY" in done.stdout


def test_data_download_refuses_an_unknown_profile():
    done = subprocess.run([ROOT / "data_download.sh", "moon"], capture_output=True, text=True)
    assert done.returncode == 2 and "moon" in done.stderr and "mini" in done.stderr


def setting(record: dict) -> str:
    """What of a record's config is its attack's own, as text; taken away from it."""
    config, attack = record["config"], record["attack"]
    own = {key: config.pop(key, {}).get(attack) for key in ("triggers", "recipes", "gates")}
    return f"{attack} {own}"


def as_of_today(record: dict) -> dict:
    """A recorded config with the fields that came after it. None of them bears on the records that lack it:
    a new field's default is what was done before, and what does not unlearn needs no words, nor the settings
    of defenses."""
    own = ("triggers", "recipes")  # setting() took these away
    config = dict(record["config"])
    if record["defense"] == "none":
        config.pop("defenses", None)
    today = profiles.get(config["name"])
    later = {name: value for name, value in today.as_config().items() if name not in own}
    words = {"words": today.unlearn.words}
    return later | config | {"unlearn": words | config["unlearn"]}


def test_records_are_complete_and_come_from_one_setting():
    records = tables.read("mini")
    keys = {(r["attack"], r["defense"], r["seed"]) for r in records}
    seeds = (0, 1, 2)
    want = {(a, "none", s) for a in ("none", *TRIGGERS) for s in seeds}
    want |= {(a, d, s) for a in ("badnets", "blended", "sig") for d in ("ubt", "finetune") for s in seeds}
    assert keys == want
    assert len({setting(r) for r in records}) == len(TRIGGERS) + 1
    told = [as_of_today(record) for record in records]
    assert len({json.dumps(config, sort_keys=True) for config in told}) == 1  # setting() took the rest away
    for record in records:
        assert {"commit", "device", "versions", "date"} <= set(record["environment"])
        assert not record["environment"]["commit"].endswith("+changes")


def test_every_attack_passed_its_gate_in_the_records():
    profile = profiles.get("mini")
    for record in tables.read("mini"):
        if record["attack"] != "none" and record["defense"] == "none":
            assert record["metrics"]["asr"] >= profile.gate, record["attack"]


def test_the_recorded_sweep_holds_every_point_once():
    profile = profiles.get("mini")
    table, wanted = sweep.read("mini"), list(sweep.points(profile))
    assert len(table) == len(wanted) == table.stage.nunique()
    for row, point in zip(table.to_dict("records"), wanted, strict=True):
        there = sweep.at(profile, point)
        spec = there.trigger(point.attack).spec()
        assert row["parameters"] == json.dumps({k: v for k, v in spec.items() if k not in ("name", "made")})
        assert (row["attack"], row["lr"]) == (point.attack, there.recipe(point.attack).lr)
        assert row["poison_rate"] == there.poison_rate
    assert not table.commit.str.endswith("+changes").any()


def test_the_recorded_matrix_is_whole_and_comes_from_clean_commits():
    table = matrix.read("mini")
    found = defense_tables.cells()
    want = {(a, d, s) for a in profile_tables.DEFENDED for d in ("none", *tuning.tuned()) for s in (0, 1, 2)}
    assert want <= set(zip(found.attack, found.defense, found.seed, strict=True))
    assert not table.duplicated(list(tables.KEYS)).any() and table.device.nunique() == 1
    assert not table.commit.str.endswith("+changes").any()


def test_readme_table_is_the_recorded_one():
    text = (ROOT / "README.md").read_text()
    found = {
        "headline": tables.as_markdown("mini"),
        "attacks": attack_tables.as_markdown("mini"),
        "speed": benchmark_tables.triggers(),
        "kernels": benchmark_tables.as_markdown(),
        "photos": profile_tables.as_markdown("photos"),
        "matrix": defense_tables.as_markdown(defense_tables.cells()),
    }
    for name, table in found.items():
        assert text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip() == table


def test_photo_records_are_whole_seeds_of_one_setting():
    records = tables.read("photos")
    seeds = {r["seed"] for r in records}
    keys = {(r["attack"], r["defense"], r["seed"]) for r in records}
    attacks = ("badnets", "blended", "sig")
    want = {(a, d, s) for a in attacks for d in ("none", "ubt", "finetune") for s in seeds}
    assert keys == want | {("none", "none", s) for s in seeds}
    assert len({json.dumps(as_of_today(r), sort_keys=True) for r in records}) == 1
    for record in records:
        assert not record["environment"]["commit"].endswith("+changes")
        if record["attack"] != "none" and record["defense"] == "none":
            assert record["metrics"]["asr"] >= profiles.get("photos").gate


def test_the_new_attack_in_the_readme_works_as_it_stands():
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 14
    names: dict = {"dataclass": dataclass, "Trigger": Trigger, "ClassVar": ClassVar, "torch": torch}
    exec(code, names)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    trigger = names["Invert"](alpha=1.0)
    torch.testing.assert_close(trigger(images), 1 - images)
    assert trigger.spec() == {"name": "invert", "alpha": 1.0} and trigger.scaled(0.5).alpha == 0.5
    assert names["Invert"] in triggers.named(Trigger) and "invert" not in triggers.TRIGGERS
