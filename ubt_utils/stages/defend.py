"""Stage unlearn: UBT step 5, or another defense at the same cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ubt_utils.attacks.base import Trigger
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.core.store import Stage, run_stage, scratch
from ubt_utils.evaluate import measure
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.base import WEIGHTS, Run, load_model, poisoned_pairs
from ubt_utils.ubt.defense import FORWARD_COST, Defense, Session, View
from ubt_utils.ubt.settings import UBT

CURVE_POINTS = 8


def ubt_cost(profile: Profile, overfitted: Stage, selected: Stage) -> float:
    """Pairs that UBT pays for in all, in trained pairs: the budget of every other defense."""
    scored = overfitted.metrics["pairs_scored"] + selected.metrics["pairs_scored"]
    detection = overfitted.metrics["pairs_seen"] + FORWARD_COST * scored
    recipe = profile.unlearn.recipe
    return detection + recipe.steps * (recipe.batch + min(recipe.batch, selected.metrics["chosen"]))


@dataclass(frozen=True)
class Plan:
    """One defense as it will run: its entry, its recipe with the steps that it may spend, its options."""

    defense: Defense
    recipe: Recipe
    options: Mapping[str, Any]

    def config(self) -> dict[str, Any]:
        """What the stage's key holds of it."""
        return {
            "defense": self.defense.name,
            "recipe": asdict(self.recipe),
            "options": dict(self.options),
        }


def plan_of(profile: Profile, defense: Defense, budget: float, pairs: int) -> Plan:
    """UBT and its variants take the profile's `unlearn`; all others as many steps as the budget pays for on a
    D of `pairs`, with what their source fixes, then the learning rate and options that the profile has for
    them."""
    if defense.is_ubt:
        how = replace(profile.unlearn, **defense.options)
        return Plan(defense, how.recipe, how.options())
    settings = dict(profile.defenses.get(defense.name, {}))
    recipe = replace(profile.baseline, **defense.recipe)
    recipe = replace(recipe, lr=settings.pop("lr", recipe.lr))
    recipe = replace(recipe, steps=defense.steps(budget, pairs, recipe.batch))
    return Plan(defense, recipe, {**defense.options, **settings})


def view_of(
    run: Run,
    public: Stage,
    attacked: Stage,
    overfitted: Stage,
    selected: Stage,
    score: Callable[[str], torch.Tensor],
) -> View:
    """What the defender holds after detection. score: (N,) of a detector, by name."""
    profile = run.profile
    pairs, _ = poisoned_pairs(profile, attacked, run.seed)
    found, task = selected.arrays(), measure.task_of(profile.sets)

    def read(name: str) -> nn.Module:
        if name == "public":
            return load_model(profile, public)
        return load_model(profile, overfitted, f"{name}.safetensors")

    return View(
        pairs=replace(pairs, labels=None, sources=()),  # the defender has neither
        tokens=models.tokenize(profile.model, pairs.captions),
        pool=overfitted.arrays()["pool"].bool(),
        suspicious=found["chosen"],
        compromised=found["compromised"],
        left_out=found["left_out"],
        model=read,
        score=score,
        names=task.names,
        prompts=tuple(models.tokenize(profile.model, p) for p in task.prompts()),
        select=profile.select,
    )


def unlearn(
    run: Run, plan: Plan, inputs: Mapping[str, Stage], trigger: Trigger | None, view: Callable[[], View]
) -> Stage:
    """The defended model fu. Of attack "none", the clean twin is defended: what does a defense cost where
    there is nothing to find?

    inputs: the stages attacked, overfitted, selected, and what else the view reads. Metrics: seconds
    (detection included where the defense needs it) and the curve of CA, ASR and target recall along the
    steps.
    """
    profile, defense = run.profile, plan.defense

    def work(folder: Path) -> Mapping[str, Any]:
        sight, model = view(), load_model(profile, inputs["attacked"])
        watch = _watch(model, profile, trigger, plan.recipe.steps)
        stream = UBT if defense.is_ubt else defense.name  # variants differ in what they do, not by luck
        session = Session((run.seed, stream), scratch(folder), watch)
        start = time.perf_counter()
        history = defense.run(model, sight, plan.recipe, session, **plan.options)
        looked = max(0.0, time.perf_counter() - start - history.spent())
        models.save(model, profile.model, folder / WEIGHTS)
        detection = _detection_seconds(defense, inputs["overfitted"], inputs["selected"])
        detection += looked if defense.looks else 0.0
        return history.log() | {
            "seconds": history.seconds + detection,
            "detection_seconds": detection,
            "curve": [{"step": step, **point} for step, point in history.curve],
        }

    config, modules = run.config() | plan.config(), run.modules(__name__, defense.run.__module__)
    return run_stage(run.parts, f"unlearn-{defense.name}", config, work, inputs, modules)


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
        full = measure.full(model, profile, trigger, measure.FEW)
        return {name: full[name] for name in ("clean_accuracy", "asr", "target_recall") if name in full}

    return watch
