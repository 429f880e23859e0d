"""Stage evaluate: UBT step 6, everything measured about one model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ubt_utils.attacks.base import Trigger
from ubt_utils.baselines import at_test
from ubt_utils.core import records
from ubt_utils.core.records import NONE
from ubt_utils.core.store import Stage, Work, run_stage
from ubt_utils.evaluate import measure, searched
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.base import Run, load_model
from ubt_utils.ubt.settings import UBT

DETECTION = ("auroc", "average_precision", "precision_at_64")
AT_TEST = ("auroc", "fpr_at_95_tpr")
COST = ("seconds", "detection_seconds", "pairs_seen")
PUBLIC = f"public_{records.PREDICTIONS}"


def evaluate_undefended(run: Run, public: Stage, attacked: Stage, trigger: Trigger | None) -> Stage:
    """The victim's model as it is, what a detector at test time makes of it, and what the public model does
    with the same pictures. Attack "none" is
    the clean twin of the backdoored model: same D, no poison. Writes the predictions of both."""
    profile = run.profile

    def work(folder: Path) -> Mapping[str, Any]:
        f0 = _measured(load_model(profile, public), profile, trigger, folder / PUBLIC)
        _warn_of_chance(profile, f0["clean_accuracy"])
        named = {f"public_{k}": v for k, v in f0.items() if k != "rates"}
        model = load_model(profile, attacked)
        own = _measured(model, profile, trigger, folder / records.PREDICTIONS)
        return named | own | _at_test(model, profile, trigger)

    return _stage(run, NONE, work, {"public": public, "attacked": attacked}, trigger, {})


def evaluate_defended(
    run: Run, attacked: Stage, selected: Stage, defended: Stage, trigger: Trigger | None, defense: str
) -> Stage:
    """A defended model, with what the defense cost, and what detection was worth where it is UBT's own.
    Writes its predictions."""
    profile, cost = run.profile, {k: defended.metrics[k] for k in COST}

    def work(folder: Path) -> Mapping[str, Any]:
        model = load_model(profile, defended)
        result = _measured(model, profile, trigger, folder / records.PREDICTIONS) | cost
        if defense == UBT:  # its variants may have another list
            result |= {k: selected.metrics[k] for k in DETECTION if k in selected.metrics}
        return result

    inputs = {"attacked": attacked, "selected": selected, "defended": defended}
    return _stage(run, defense, work, inputs, trigger, {"cost": cost})


def _measured(model: nn.Module, profile: Profile, trigger: Trigger | None, path: Path) -> dict[str, Any]:
    """All numbers of a model against the task; writes its predictions."""
    found = measure.measured(model, profile, trigger)
    records.write_table(path, found.predictions)
    seek = measure.sought(model, profile)
    beside = measure.beyond(model, profile, found.embedded, seek)
    return found.flat() | beside | searched.attacked(model, profile, trigger, seek)


def _at_test(model: nn.Module, profile: Profile, trigger: Trigger | None) -> dict[str, float]:
    """How well BDetCLIP tells stamped test pictures from clean ones; nothing where none is stamped."""
    if trigger is None or trigger.label == "targeted":
        return {}
    found = at_test.detected(model, profile, trigger)
    return {f"bdetclip_{name}": found[name] for name in AT_TEST}


def _warn_of_chance(profile: Profile, ca: float) -> None:
    """A pretrained f0 that guesses: as a rule the test's folders are not in the order of the classes."""
    classes = len(profile.sets.class_names())
    if profile.weights and ca < 2 / classes:
        warnings.warn(
            f"f0 is pretrained, and yet its clean accuracy of {ca:.1%} is that of guessing among {classes} "
            "classes: are the test's folders those of the classes, in their order?",
            stacklevel=2,
        )


def _stage(
    run: Run, defense: str, work: Work, inputs: Mapping[str, Stage], trigger: Trigger | None, beside: Mapping
) -> Stage:
    config = run.config() | {
        **beside,
        "attack": run.attack,
        "defense": defense,
        "f0": run.profile.f0,  # which classes are known depends on it
        "trigger": trigger and trigger.spec(),
        "also": [(run.profile.trigger(n).spec(), target) for n, target in run.profile.also.items()],
    }
    return run_stage(run.parts, f"evaluate-{defense}", config, work, inputs, run.modules(__name__))
