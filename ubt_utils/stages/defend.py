"""Stages unlearn and evaluate: from the backdoored model to the defended one and its record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ubt_utils import defenses, evaluation, models, runs, towers
from ubt_utils.attacks.base import Trigger
from ubt_utils.defenses.base import FORWARD_COST, Defense, Session, View
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.attack import attack
from ubt_utils.stages.common import (
    NONE,
    WEIGHTS,
    base_config,
    load_model,
    log_of,
    poisoned_pairs,
    unlogged,
)  # fmt: skip
from ubt_utils.stages.craft import trigger_if_any
from ubt_utils.stages.detect import overfit, select
from ubt_utils.stages.pretrain import pretrain
from ubt_utils.stages.score import score
from ubt_utils.training import Recipe

CURVE_POINTS = 8
DETECTION = ("auroc", "average_precision", "precision_at_64")


def view_of(profile: Profile, attack_name: str, seed: int) -> View:
    """What the defender holds after detection."""
    attacked, overfitted = attack(profile, attack_name, seed), overfit(profile, attack_name, seed)
    pairs, _ = poisoned_pairs(profile, attacked, seed)
    found = select(profile, attack_name, seed).arrays()
    task = evaluation.task_of(profile.sets)

    def read(name: str) -> nn.Module:
        if name == "public":
            return load_model(profile, pretrain(profile))
        return towers.lock(models.load(profile.model, overfitted.path(f"{name}.safetensors")), profile.locked)

    return View(
        pairs=replace(pairs, labels=None, sources=()),  # the defender has neither
        tokens=models.tokenize(profile.model, pairs.captions),
        pool=overfitted.arrays()["pool"].bool(),
        suspicious=found["chosen"],
        compromised=found["compromised"],
        left_out=found["left_out"],
        model=read,
        score=lambda name: score(profile, attack_name, seed).arrays()[name],
        names=task.names,
        prompts=tuple(models.tokenize(profile.model, p) for p in task.prompts()),
    )


def ubt_cost(profile: Profile, overfitted: Stage, selected: Stage) -> float:
    """Pairs that UBT pays for in all, in trained pairs: the budget of every other defense."""
    scored = overfitted.metrics["pairs_scored"] + selected.metrics["pairs_scored"]
    detection = overfitted.metrics["pairs_seen"] + FORWARD_COST * scored
    recipe = profile.unlearn.recipe
    return detection + recipe.steps * (recipe.batch + min(recipe.batch, selected.metrics["chosen"]))


@dataclass(frozen=True)
class Plan:
    """One defense as it will run: its entry, its recipe with the steps that it may spend, its options,
    and what the stage's config says of them."""

    defense: Defense
    recipe: Recipe
    options: Mapping[str, Any]
    config: Mapping[str, Any]


def plan_of(profile: Profile, name: str, budget: float, pairs: int) -> Plan:
    """UBT and its variants take UBT's recipe; all others as many steps as the budget pays for on a D of
    `pairs`, with the learning rate and options that the profile has for them. ValueError if unknown."""
    defense = defenses.get(name)
    tuned = dict(profile.defenses.get("ubt" if defense.is_ubt else name, {}))
    base = profile.unlearn.recipe if defense.is_ubt else profile.baseline
    base = replace(base, lr=tuned.pop("lr", base.lr))
    if defense.is_ubt:
        options = {**profile.unlearn.options(), **tuned, **defense.options}
        return Plan(defense, base, options, {"defense": name, "recipe": asdict(base), **options})
    options = {**defense.options, **tuned}
    recipe = replace(base, steps=defense.steps(budget, pairs, base.batch))
    told = {"defense": name, "recipe": asdict(base), "budget": budget}
    if (defense.cost, defense.looks) != (1.0, 0.0):
        told |= {"steps": recipe.steps}
    return Plan(defense, recipe, options, told | ({"options": options} if options else {}))


def unlearn(profile: Profile, attack_name: str, seed: int, defense: str = "ubt") -> Stage:
    """UBT step 5, or another defense at the same budget: the defended model fu. Of attack "none", the clean
    twin is defended: what does a defense cost where there is nothing to find?

    Metrics: seconds (detection included where the defense needs it) and the curve of CA, ASR
    and target recall along the steps. Raises ValueError for an unknown defense.
    """
    defenses.get(defense)
    attacked = attack(profile, attack_name, seed)
    overfitted, selected = overfit(profile, attack_name, seed), select(profile, attack_name, seed)
    size = overfitted.metrics["pairs_scored"] - overfitted.metrics["pool_size"]  # of D: all and the pool
    plan = plan_of(profile, defense, ubt_cost(profile, overfitted, selected), size)
    inputs = [attacked, overfitted, selected]
    if {"detector", "again"} & set(plan.options):
        inputs.append(score(profile, attack_name, seed))
    config = base_config(profile, seed, tuple(inputs)) | plan.config

    def work(folder: Path) -> Mapping[str, Any]:
        view, model = view_of(profile, attack_name, seed), load_model(profile, attacked)
        watch = _watch(model, profile, trigger_if_any(profile, attack_name, seed), plan.recipe.steps)
        stream = "ubt" if plan.defense.is_ubt else defense  # variants differ in what they do, not by luck
        session = Session((seed, stream), runs.scratch(folder), watch)
        start = time.perf_counter()
        history = plan.defense.run(model, view, plan.recipe, session, **plan.options)
        looked = max(0.0, time.perf_counter() - start - history.spent())
        models.save(model, profile.model, folder / WEIGHTS)
        detection = _detection_seconds(plan.defense, overfitted, selected)
        detection += looked if plan.defense.looks else 0.0
        return log_of(history) | {
            "seconds": history.seconds + detection,
            "detection_seconds": detection,
            "curve": [{"step": step, **point} for step, point in history.curve],
        }

    return runs.run_stage((profile.family, attack_name, str(seed)), f"unlearn-{defense}", config, work)


def _detection_seconds(defense: Defense, overfitted: Stage, selected: Stage) -> float:
    """What the stages before cost a defense that uses them; splitting off the pool is free for all. UBT fed
    by another detector is charged UBT's own detection."""
    seconds = 0.0
    if "overfit" in defense.sees:
        seconds += overfitted.metrics["train_seconds"] + overfitted.metrics["score_seconds"]
    if "detection" in defense.sees:
        seconds += selected.metrics["seconds"]
    return seconds


def _watch(model: nn.Module, profile: Profile, trigger: Trigger | None, steps: int):
    stops = {round(steps * i / CURVE_POINTS) for i in range(CURVE_POINTS + 1)}

    def watch(step: int) -> dict[str, float] | None:
        if step not in stops:
            return None
        full = evaluation.full(model, profile, trigger, evaluation.FEW)
        return {name: full[name] for name in ("clean_accuracy", "asr", "target_recall") if name in full}

    return watch


def evaluate(profile: Profile, attack_name: str, seed: int, defense: str = NONE) -> Stage:
    """UBT step 6: everything measured about one model, as one record.

    attack "none" is the clean twin of the backdoored model: same D, no poison.
    """
    if defense != NONE:
        defenses.get(defense)
    made = attack(profile, attack_name, seed)
    inputs = [made, pretrain(profile)]
    if defense != NONE:
        inputs += [unlearn(profile, attack_name, seed, defense), select(profile, attack_name, seed)]
    config = base_config(profile, seed, tuple(inputs)) | {"attack": attack_name, "defense": defense}

    def work(folder: Path) -> Mapping[str, Any]:
        trigger = trigger_if_any(profile, attack_name, seed)
        if defense == NONE:
            public = unlogged(inputs[1]) | evaluation.full(load_model(profile, inputs[1]), profile, trigger)
            named = {f"public_{k}": v for k, v in public.items() if k != "rates"}
            return unlogged(made) | evaluation.beyond(load_model(profile, made), profile) | named
        defended, selected = inputs[2:]
        model = load_model(profile, defended)
        result = evaluation.full(model, profile, trigger) | evaluation.beyond(model, profile)
        result |= {k: defended.metrics[k] for k in ("seconds", "detection_seconds", "pairs_seen")}
        if defense == "ubt":  # its variants may have another list
            result |= {k: selected.metrics[k] for k in DETECTION if k in selected.metrics}
        return result

    return runs.run_stage((profile.family, attack_name, str(seed)), f"evaluate-{defense}", config, work)
