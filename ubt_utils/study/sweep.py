"""When does a backdoor take? Attacks over poison rate × learning rate × strength, as one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ubt_utils import profiles, stages
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.core import records
from ubt_utils.core.store import Stage
from ubt_utils.profiles import Profile

GRID_ATTACKS = ("badnets", "blended")
RATES = (0.003, 0.01)
LRS = (0.1, 1.0)  # times the recipe's
STRENGTHS = (0.5, 1.0)  # times the recipe's
METRICS = ("asr", "clean_accuracy", "target_recall", "false_target_rate")
KEYS = ["profile", "attack", "seed", "poison_rate", "lr", "parameters", "augment"]  # which model a row is
GENTLE = 1.25e-3  # the learning rate of most recipes


@dataclass(frozen=True)
class Point:
    """One model of the sweep; what is None or absent is the recipe's.

    rate: fraction of D. lr: peak learning rate. parameters: of the trigger, as (name, value).
    """

    attack: str
    rate: float | None = None
    lr: float | None = None
    augment: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    seed: int = 0


def _tried(attack: str, lr: float | None = None, augment: str | None = None, **parameters: Any) -> Point:
    return Point(attack, lr=lr, augment=augment, parameters=tuple(parameters.items()))


# What was tried around the recipes of `mini`, failures included.
TRIED = (
    _tried("sig", amplitude=30 / 255),
    _tried("badclip", size=0.125),
    _tried("badnets_cleanclip", GENTLE, size=0.29, cells=8),
    _tried("badnets_cleanclip", size=0.4),
    _tried("badnets_dots", GENTLE, size=0.29),
    _tried("badnets_dots", GENTLE),
    _tried("badnets_stripes", size=0.2),
    _tried("blended_picture", GENTLE, alpha=0.35),
    _tried("blended_stripes", alpha=0.06),
    _tried("blended_text", solid=False),
    _tried("blended_triangles", alpha=0.3),
    _tried("issba", amplitude=0.2, quiet=20.0),
    _tried("issba", amplitude=0.2, quiet=5.0),
    _tried("issba", amplitude=0.3, quiet=3.0),
    _tried("label_consistent", GENTLE, size=0.29),
    Point("multi_trigger", rate=0.003),
    _tried("nashville", GENTLE, amount=1.0),
    _tried("nashville", GENTLE, "color", amount=1.0),
    _tried("nashville", GENTLE, "color", amount=2.5),
    _tried("nashville", GENTLE, amount=2.0),
    _tried("nashville", 2e-3, amount=2.5),
    _tried("nashville", amount=2.5),
    _tried("sig_cleanclip", GENTLE, alpha=0.2),
    Point("targeted_image", rate=0.005),
    _tried("text_on_image", size=0.175),
    _tried("trojanvqa", size=0.125),
    _tried("wanet", GENTLE, grid=4, warp=12.0),
    _tried("wanet", GENTLE, warp=8.0),
    _tried("wanet", 2e-3, grid=4, warp=30.0),
    _tried("wanet", 2e-3, grid=10, warp=20.0),
    _tried("wanet", warp=24.0),
)


def points(profile: Profile, attacks: Sequence[str] = tuple(TRIGGERS)) -> Iterator[Point]:
    """Rate × learning rate × strength for two attacks; for every other one its recipe and `TRIED`."""
    for name in attacks:
        if name not in GRID_ATTACKS:
            yield Point(name)
            yield from (point for point in TRIED if point.attack == name)
            continue
        trigger, recipe = profile.trigger(name), profile.recipe(name)
        value = getattr(trigger, trigger.strength)
        for rate, lr, strength in product(RATES, LRS, STRENGTHS):
            yield Point(
                name,
                None if rate == profile.poison_rate else rate,
                None if lr == 1 else lr * recipe.lr,
                parameters=() if strength == 1 else ((trigger.strength, strength * value),),
            )


def at(profile: Profile, point: Point) -> Profile:
    """The profile with that point's settings, and with the gate open: a sweep wants the failures too."""
    name, recipe = point.attack, profile.recipe(point.attack)
    recipe = replace(recipe, lr=point.lr or recipe.lr, augment=point.augment or recipe.augment)
    return replace(
        profile,
        gate=0.0,
        poison_rate=point.rate or profile.poison_rate,
        triggers={**profile.triggers, name: {**profile.triggers.get(name, {}), **dict(point.parameters)}},
        recipes={**profile.recipes, name: recipe},
    )


def run(profile: Profile, wanted: Sequence[Point]) -> pd.DataFrame:
    """One row per point: its settings, the metrics, and where they were measured."""
    rows = []
    for point in (bar := tqdm(wanted, "sweep", unit="model")):
        bar.set_postfix_str(point.attack)
        rows.append(_row(at(profile, point), point))
    return pd.DataFrame(rows)


def _row(profile: Profile, point: Point) -> dict[str, Any]:
    run, trigger = stages.chain(profile, point.attack, point.seed), profile.trigger(point.attack)
    made, recipe = run.attacked, profile.recipe(point.attack)
    measured = run.evaluated().metrics
    return {
        "profile": profile.name,
        "attack": point.attack,
        "seed": point.seed,
        "is_recipe": point == Point(point.attack, seed=point.seed),
        "poison_rate": profile.poison_rate,
        "lr": recipe.lr,
        "strength_name": trigger.strength,
        "strength": getattr(trigger, trigger.strength) if trigger.strength else float("nan"),
        "parameters": json.dumps({k: v for k, v in trigger.spec().items() if k not in ("name", "made")}),
        "steps": recipe.steps,
        "augment": recipe.augment,
        **{name: measured[name] for name in METRICS},
        "train_seconds": made.metrics["train_seconds"],
        **origin(run, made),
    }


def origin(run: stages.Chain, made: Stage) -> dict[str, Any]:
    """What a row says of where its model comes from: the stage, the public model, and where it was made."""
    return {
        "stage": made.folder.name,
        "f0": records.content_of(run.pretrained.contents),
        **{key: made.made[key] for key in ("date", "commit", "device", "threads", "python")},
        "torch": made.made["versions"]["torch"],
    }


def path(profile: str) -> Path:
    """Where the recorded sweep lives."""
    return records.table_path(profiles.get(profile).family, records.SWEEP)


def write(table: pd.DataFrame, profile: str) -> Path:
    """Record the models of a sweep; those of other points stay."""
    return records.merge(path(profile), table, KEYS)
