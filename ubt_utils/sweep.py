"""When does a backdoor take? Attacks over poison rate × learning rate × strength, as one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ubt_utils import report, stages
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.profiles import Profile

GRID_ATTACKS = ("badnets", "blended", "sig")
RATES = (0.003, 0.01)
LRS = (0.1, 1.0)
STRENGTHS = (0.5, 1.0)
METRICS = ("asr", "clean_accuracy", "target_recall", "false_target_rate")


@dataclass(frozen=True)
class Point:
    """One model of the sweep. rate: fraction of D. lr and strength: multiples of the attack's recipe."""

    attack: str
    rate: float
    lr: float = 1.0
    strength: float = 1.0
    seed: int = 0


def points(profile: Profile, attacks: Sequence[str] = tuple(TRIGGERS)) -> Iterator[Point]:
    """The full grid for three attacks; for every other one its recipe, and half its strength.

    An attack without a strength is shown at its recipe and at the lowest rate.
    """
    for name in attacks:
        if name in GRID_ATTACKS:
            yield from (Point(name, r, lr, s) for r in RATES for lr in LRS for s in STRENGTHS)
            continue
        yield Point(name, profile.poison_rate)
        if profile.trigger(name).strength:
            yield Point(name, profile.poison_rate, strength=STRENGTHS[0])
        else:
            yield Point(name, RATES[0])


def at(profile: Profile, point: Point) -> Profile:
    """The profile with that point's settings, and with the gate open: a sweep wants the failures too."""
    trigger, recipe = profile.trigger(point.attack), profile.recipe(point.attack)
    changed = trigger if point.strength == 1 else trigger.scaled(point.strength)
    spec = {k: v for k, v in changed.spec().items() if k != "name"}
    return replace(
        profile,
        gate=0.0,
        gates={},
        poison_rate=point.rate,
        triggers={**profile.triggers, point.attack: spec},
        recipes={**profile.recipes, point.attack: replace(recipe, lr=recipe.lr * point.lr)},
    )


def run(profile: Profile, wanted: Sequence[Point]) -> pd.DataFrame:
    """One row per point: its settings, the metrics, and where they were measured."""
    rows = []
    for point in (bar := tqdm(wanted, "sweep", unit="model")):
        bar.set_postfix_str(point.attack)
        rows.append(_row(at(profile, point), point))
    return pd.DataFrame(rows)


def _row(profile: Profile, point: Point) -> dict[str, Any]:
    made, trigger = stages.attack(profile, point.attack, point.seed), profile.trigger(point.attack)
    recipe, where = profile.recipe(point.attack), report.environment()
    return {
        "profile": profile.name,
        "attack": point.attack,
        "seed": point.seed,
        "poison_rate": point.rate,
        "lr": recipe.lr,
        "lr_factor": point.lr,
        "strength_factor": point.strength,
        "strength_name": trigger.strength,
        "strength": getattr(trigger, trigger.strength) if trigger.strength else float("nan"),
        "steps": recipe.steps,
        "augment": recipe.augment,
        **{name: made.metrics[name] for name in METRICS},
        "train_seconds": made.metrics["train_seconds"],
        "stage": made.folder.name,
        **{key: where[key] for key in ("date", "commit", "device", "python")},
        "torch": where["versions"]["torch"],
    }


def path(profile_name: str) -> Path:
    """Where the recorded sweep lives."""
    return report.RESULTS / profile_name / "attack_sweep.parquet"


def write(table: pd.DataFrame, profile_name: str) -> Path:
    """Write the sweep, whole or not at all."""
    out = path(profile_name)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    table.to_parquet(part, index=False)
    part.replace(out)
    return out


def read(profile_name: str) -> pd.DataFrame:
    """The recorded sweep; FileNotFoundError says how to make it."""
    if not path(profile_name).exists():
        raise FileNotFoundError(f"no {path(profile_name).name} for {profile_name}: run `make sweep`")
    return pd.read_parquet(path(profile_name))
