"""How hard to push: UBT's path for several weights w of its push, on one victim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ubt_utils import profiles, stages
from ubt_utils.core import records
from ubt_utils.profiles import Profile
from ubt_utils.study.sweep import origin

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
KEYS = ["profile", "attack", "seed", "weight", "step"]


def at(profile: Profile, weight: float) -> Profile:
    """The profile with that weight of the push."""
    return replace(profile, unlearn=replace(profile.unlearn, weight=weight))


def weights(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """UBT's path for weights of its push from nothing to ten times the profile's, to
    results/<family>/weights.parquet."""
    setting = profiles.get(profile)
    table = pd.DataFrame(
        row
        for weight in tqdm(WEIGHTS, "weights", unit="model")
        for row in _path(stages.chain(at(setting, weight), attack, seed), weight)
    )
    print(records.merge(records.table_path(setting.family, records.WEIGHTS), table, KEYS))


def _path(run: stages.Chain, weight: float) -> Iterator[dict[str, Any]]:
    """A row for each point of the path: where it is, what the test says there, and where it was measured."""
    made = run.defended()
    for point in made.metrics["curve"]:
        yield {
            "profile": run.profile.name,
            "attack": run.attack,
            "seed": run.seed,
            "weight": weight,
            **{name: value for name, value in point.items() if name != "seconds"},
            **origin(run, made),
        }
