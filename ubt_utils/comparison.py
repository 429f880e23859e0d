"""Every detector on the same poisoned sets, as one recorded table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ubt_utils import parallel, profiles, report, stages, tables

NAME = "detectors.parquet"
NOISES = ("mini-noise0", "mini", "mini-noise30")  # 0, 10 and 30 % of D's captions misplaced


@dataclass(frozen=True)
class Set:
    """One poisoned set: a profile (its caption noise), an attack and a seed."""

    profile: str
    attack: str
    seed: int


def sets(names: Sequence[str], attacks: Sequence[str], seeds: Sequence[int]) -> list[Set]:
    """All poisoned sets."""
    return [Set(name, attack, seed) for name in names for attack in attacks for seed in seeds]


def scored(one: Set) -> list[dict[str, Any]]:
    """A row per detector: how well it finds the poison of that set, and what it took."""
    profile = profiles.get(one.profile)
    made, where = stages.score(profile, one.attack, one.seed), report.environment()
    shared = {
        "profile": one.profile,
        "noise": profile.sets.noise,
        "attack": one.attack,
        "seed": one.seed,
        "embed_seconds": made.metrics["embed_seconds"],
        "stage": made.folder.name,
        **{key: where[key] for key in ("date", "commit", "device")},
    }
    return [
        {**shared, "detector": name, **values, "seconds": made.metrics["seconds"].get(name)}
        for name, values in made.metrics["detectors"].items()
    ]


def record(profile: str, wanted: Sequence[Set], workers: int) -> pd.DataFrame:
    """Score all sets and put them into results/<profile>/detectors.parquet; returns the new rows."""
    rows = [row for part in parallel.each(scored, wanted, workers, "detectors", "set") for row in part]
    table = pd.DataFrame(rows)
    tables.merge(report.RESULTS / profile / NAME, table, ["profile", "attack", "seed", "detector"])
    return table


def read(profile: str) -> pd.DataFrame:
    """The recorded rows; a FileNotFoundError says how to make them."""
    return tables.read(report.RESULTS / profile / NAME, "python -m ubt_utils detectors")


def by_noise(table: pd.DataFrame, measure: str = "average_precision") -> pd.DataFrame:
    """Mean of one measure over the attacks and seeds that all noise rates have: a row per detector, best
    first; a column per noise rate."""
    rates = table.groupby(["attack", "seed"]).noise.transform("nunique")
    found = table[rates == table.noise.nunique()].pivot_table(
        index="detector", columns="noise", values=measure
    )
    return found.loc[found.mean(axis=1).sort_values(ascending=measure == "fpr_at_95_tpr").index]
