"""Stage evaluate: UBT step 6, everything measured about one model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubt_utils.attacks.base import Trigger
from ubt_utils.core.records import NONE
from ubt_utils.core.store import Stage, Work, run_stage
from ubt_utils.evaluate import measure
from ubt_utils.stages.base import Run, load_model, unlogged
from ubt_utils.ubt.settings import UBT

DETECTION = ("auroc", "average_precision", "precision_at_64")
COST = ("seconds", "detection_seconds", "pairs_seen")


def evaluate_undefended(run: Run, public: Stage, attacked: Stage, trigger: Trigger | None) -> Stage:
    """The victim's model as it is, and what the public model does with the same pictures. Attack "none" is
    the clean twin of the backdoored model: same D, no poison."""
    profile = run.profile

    def work(folder: Path) -> Mapping[str, Any]:
        f0 = unlogged(public) | measure.full(load_model(profile, public), profile, trigger)
        named = {f"public_{k}": v for k, v in f0.items() if k != "rates"}
        return unlogged(attacked) | measure.beyond(load_model(profile, attacked), profile) | named

    return _stage(run, NONE, work, {"public": public, "attacked": attacked}, trigger, {})


def evaluate_defended(
    run: Run, attacked: Stage, selected: Stage, defended: Stage, trigger: Trigger | None, defense: str
) -> Stage:
    """A defended model, with what the defense cost, and what detection was worth where it is UBT's own."""
    profile, cost = run.profile, {k: defended.metrics[k] for k in COST}

    def work(folder: Path) -> Mapping[str, Any]:
        model = load_model(profile, defended)
        result = measure.full(model, profile, trigger) | measure.beyond(model, profile)
        result |= cost
        if defense == UBT:  # its variants may have another list
            result |= {k: selected.metrics[k] for k in DETECTION if k in selected.metrics}
        return result

    inputs = {"attacked": attacked, "selected": selected, "defended": defended}
    return _stage(run, defense, work, inputs, trigger, {"cost": cost})


def _stage(
    run: Run, defense: str, work: Work, inputs: Mapping[str, Stage], trigger: Trigger | None, beside: Mapping
) -> Stage:
    config = run.config() | {
        **beside,
        "attack": run.attack,
        "defense": defense,
        "trigger": trigger and trigger.spec(),
        "also": [(run.profile.trigger(n).spec(), target) for n, target in run.profile.also.items()],
    }
    return run_stage(run.parts, f"evaluate-{defense}", config, work, inputs, run.modules(__name__))
