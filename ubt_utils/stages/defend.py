"""Stages unlearn and evaluate: from the backdoored model to the defended one and its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from ubt_utils import defenses, evaluation, models, runs
from ubt_utils.attacks.base import Trigger
from ubt_utils.defenses.base import Session, View
from ubt_utils.defenses.finetune import finetune, steps_for
from ubt_utils.defenses.ubt import unlearn as ubt_unlearn
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.attack import attack
from ubt_utils.stages.common import (
    NONE,
    WEIGHTS,
    base_config,
    load_model,
    log_of,
    needs_poison,
    poisoned_pairs,
    unlogged,
)  # fmt: skip
from ubt_utils.stages.craft import trigger_of
from ubt_utils.stages.detect import overfit, select
from ubt_utils.stages.pretrain import pretrain

FORWARD_COST = 1 / 3  # a forward pass against a training step (forward and backward)
CURVE_POINTS = 8
DETECTION = ("auroc", "average_precision", "precision_at_64")


def view_of(profile: Profile, attack_name: str, seed: int) -> View:
    """What the defender holds after detection."""
    pairs, _ = poisoned_pairs(profile, attack(profile, attack_name, seed), seed)
    found = select(profile, attack_name, seed).arrays()
    pool = overfit(profile, attack_name, seed).arrays()["pool"].bool()
    tokens = models.tokenize(profile.model, pairs.captions)
    pairs = replace(pairs, labels=None, sources=())  # the defender has neither
    return View(pairs, tokens, pool, found["chosen"], found["compromised"], found["left_out"])


def check_defense(attack_name: str, defense: str) -> None:
    """Raise ValueError for an unknown defense, or when there is no attack to defend against."""
    if defense not in defenses.DEFENSES:
        raise ValueError(f"unknown defense {defense!r}; known: {', '.join(defenses.DEFENSES)}")
    needs_poison(attack_name)


def ubt_cost(profile: Profile, overfitted: Stage, selected: Stage) -> float:
    """Pairs that UBT pays for in all, in trained pairs: the budget of every other defense."""
    scored = overfitted.metrics["pairs_scored"] + selected.metrics["pairs_scored"]
    detection = overfitted.metrics["pairs_seen"] + FORWARD_COST * scored
    return detection + profile.unlearn.recipe.steps * (profile.unlearn.recipe.batch + profile.select.top)


def unlearn(profile: Profile, attack_name: str, seed: int, defense: str = "ubt") -> Stage:
    """UBT step 5, or another defense at the same budget: the defended model fu.

    Metrics: seconds (detection included where the defense needs it) and the curve of CA, ASR
    and target recall along the steps. Raises ValueError for an unknown defense.
    """
    check_defense(attack_name, defense)
    attacked = attack(profile, attack_name, seed)
    overfitted, selected = overfit(profile, attack_name, seed), select(profile, attack_name, seed)
    recipe = profile.unlearn.recipe if defense == "ubt" else profile.baseline
    budget = ubt_cost(profile, overfitted, selected)
    config = base_config(profile, seed, (attacked, overfitted, selected)) | {
        "defense": defense,
        "recipe": asdict(recipe),
        **(profile.unlearn.options() if defense == "ubt" else {"budget": budget}),
    }

    def work(folder: Path) -> Mapping[str, Any]:
        view, model = view_of(profile, attack_name, seed), load_model(profile, attacked)
        trigger = trigger_of(profile, attack_name, seed)
        steps = recipe.steps if defense == "ubt" else steps_for(budget, recipe.batch)
        session = Session((seed, defense), runs.scratch(folder), _watch(model, profile, trigger, steps))
        if defense == "ubt":
            history = ubt_unlearn(model, view, recipe, session, **profile.unlearn.options())
            detection = overfitted.metrics["train_seconds"] + overfitted.metrics["score_seconds"]
            detection += selected.metrics["seconds"]
        else:
            history, detection = finetune(model, view, recipe, budget, session), 0.0
        models.save(model, profile.model, folder / WEIGHTS)
        return log_of(history) | {
            "seconds": history.seconds + detection,
            "detection_seconds": detection,
            "curve": [{"step": step, **point} for step, point in history.curve],
        }

    return runs.run_stage((profile.name, attack_name, str(seed)), f"unlearn-{defense}", config, work)


def _watch(model: nn.Module, profile: Profile, trigger: Trigger, steps: int):
    stops = {round(steps * i / CURVE_POINTS) for i in range(CURVE_POINTS + 1)}

    def watch(step: int) -> dict[str, float] | None:
        if step not in stops:
            return None
        full = evaluation.full(model, profile, trigger, evaluation.FEW)
        return {name: full[name] for name in ("clean_accuracy", "asr", "target_recall")}

    return watch


def evaluate(profile: Profile, attack_name: str, seed: int, defense: str = NONE) -> Stage:
    """UBT step 6: everything measured about one model, as one record.

    attack "none" is the clean twin of the backdoored model: same D, no poison.
    """
    if defense != NONE:
        check_defense(attack_name, defense)
    made = attack(profile, attack_name, seed)
    inputs = [made, pretrain(profile)]
    if defense != NONE:
        inputs += [unlearn(profile, attack_name, seed, defense), select(profile, attack_name, seed)]
    config = base_config(profile, seed, tuple(inputs)) | {"attack": attack_name, "defense": defense}

    def work(folder: Path) -> Mapping[str, Any]:
        trigger = None if attack_name == NONE else trigger_of(profile, attack_name, seed)
        if defense == NONE:
            public = unlogged(inputs[1]) | evaluation.full(load_model(profile, inputs[1]), profile, trigger)
            named = {f"public_{k}": v for k, v in public.items() if k != "rates"}
            return unlogged(made) | evaluation.beyond(load_model(profile, made), profile) | named
        defended, selected = inputs[2:]
        model = load_model(profile, defended)
        result = evaluation.full(model, profile, trigger) | evaluation.beyond(model, profile)
        result |= {k: defended.metrics[k] for k in ("seconds", "detection_seconds", "pairs_seen")}
        if defense == "ubt":
            result |= {k: selected.metrics[k] for k in DETECTION}
        return result

    return runs.run_stage((profile.name, attack_name, str(seed)), f"evaluate-{defense}", config, work)
