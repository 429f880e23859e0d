"""Stage craft: triggers that are optimized, trained or chosen before the poisoning."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubt_utils import runs
from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.craft import Attacker, Crafted
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.common import NONE, base_config, load_model, wild
from ubt_utils.stages.pretrain import pretrain

TRIGGER = "trigger.json"


def craft(profile: Profile, attack_name: str, seed: int) -> Stage:
    """The trigger of an attack that must be made first, as trigger.json.

    Raises ValueError for a trigger that is whole as it is.
    """
    trigger, public = profile.trigger(attack_name), pretrain(profile)
    if not isinstance(trigger, Crafted):
        raise ValueError(f"{attack_name} needs no crafting: its spec is the whole trigger")
    config = base_config(profile, seed, (public,)) | {"trigger": trigger.spec()}

    def work(folder: Path) -> Mapping[str, Any]:
        start = time.perf_counter()
        sets = profile.sets
        pairs = wild(sets, seed)[0]
        goals = sets.goals(seed) if trigger.label == "targeted" else pairs.images[:0]
        attacker = Attacker(
            load_model(profile, public), profile.model, pairs, sets.class_names()[sets.target],
            tuple(sets.target_labels()), goals, seed,
        )  # fmt: skip
        spec = trigger.craft(attacker).spec()
        (folder / TRIGGER).write_text(json.dumps(spec), encoding="utf-8")
        return {"train_seconds": time.perf_counter() - start}

    return runs.run_stage((profile.family, attack_name, str(seed)), "craft", config, work)


def trigger_if_any(profile: Profile, attack_name: str, seed: int) -> Trigger | None:
    """The same as `trigger_of`; None for the clean twin."""
    return None if attack_name == NONE else trigger_of(profile, attack_name, seed)


def trigger_of(profile: Profile, attack_name: str, seed: int) -> Trigger:
    """The trigger of an attack, ready to stamp: crafted first where it needs to be."""
    trigger = profile.trigger(attack_name)
    if not isinstance(trigger, Crafted):
        return trigger
    made = craft(profile, attack_name, seed).path(TRIGGER)
    return triggers.get(**json.loads(made.read_text(encoding="utf-8")))
