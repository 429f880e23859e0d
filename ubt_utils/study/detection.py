"""Every detector on the same poisoned sets, as one recorded table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils import profiles, stages
from ubt_utils.core import records
from ubt_utils.study import parallel

NOISES = ("mini-noise0", "mini", "mini-noise30")  # 0, 10 and 30 % of D's captions misplaced
KEYS = ["profile", "attack", "seed", "detector"]


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
    run = stages.chain(profile, one.attack, one.seed)
    made = run.scored
    shared = {
        "profile": one.profile,
        "noise": profile.sets.noise,
        "attack": one.attack,
        "seed": one.seed,
        "embed_seconds": made.metrics["embed_seconds"],
        "stage": made.folder.name,
        "f0": records.content_of(run.pretrained.contents),
        **{key: made.made[key] for key in ("date", "commit", "device", "threads", "workers")},
    }
    return [
        {**shared, "detector": name, **values, "seconds": made.metrics["seconds"].get(name)}
        for name, values in made.metrics["detectors"].items()
    ]


def record(profile: str, wanted: Sequence[Set], workers: int) -> Path:
    """Score all sets and put them into results/<family>/detectors.parquet."""
    rows = [row for part in parallel.each(scored, wanted, workers, "detectors", "set") for row in part]
    path = records.table_path(profiles.get(profile).family, records.DETECTORS)
    return records.merge(path, pd.DataFrame(rows), KEYS)
