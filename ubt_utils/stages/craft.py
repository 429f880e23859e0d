"""Stage craft: triggers that are optimized, trained or chosen before the poisoning."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.craft import Attacker, Crafted
from ubt_utils.core.store import Stage, run_stage
from ubt_utils.stages.base import Run, load_model, wild

TRIGGER = "trigger.json"


def uncrafted(run: Run) -> Crafted:
    """The trigger of an attack that must be made first; ValueError for one that is whole as it is."""
    run.needs_poison()
    trigger = run.profile.trigger(run.attack)
    if not isinstance(trigger, Crafted):
        raise ValueError(f"{run.attack} needs no crafting: its spec is the whole trigger")
    return trigger


def craft(run: Run, public: Stage) -> Stage:
    """The trigger of an attack that must be made first, as trigger.json; ValueError as `uncrafted`."""
    profile, trigger = run.profile, uncrafted(run)

    def work(folder: Path) -> Mapping[str, Any]:
        start, sets = time.perf_counter(), profile.sets
        pairs = wild(sets, run.seed)[0]
        goals = sets.goals(run.seed) if trigger.label == "targeted" else pairs.images[:0]
        attacker = Attacker(
            load_model(profile, public), profile.model, pairs, sets.class_names()[sets.target],
            tuple(sets.target_labels()), goals, run.seed,
        )  # fmt: skip
        spec = trigger.craft(attacker).spec()
        (folder / TRIGGER).write_text(json.dumps(spec), encoding="utf-8")
        return {"train_seconds": time.perf_counter() - start}

    config = run.config() | {"trigger": trigger.spec()}
    return run_stage(run.parts, "craft", config, work, {"public": public}, run.modules(__name__))


def crafted_trigger(made: Stage) -> Trigger:
    """The trigger that a craft stage has made, ready to stamp."""
    return triggers.get(**json.loads(made.path(TRIGGER).read_text(encoding="utf-8")))
