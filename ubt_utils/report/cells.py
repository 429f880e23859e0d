"""The cells of a recorded matrix, and what else is recorded of a profile. Loads no model."""

from __future__ import annotations

import json

import pandas as pd

from ubt_utils import profiles
from ubt_utils.core import paths, records
from ubt_utils.report import tables

STUDY = "first-study"  # the family whose matrix the tables of defenses, attacks and attackers read


class MixedEvidence(ValueError):
    """Rows of one table that descend from different public models."""


def of_one_model(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is; MixedEvidence where its rows descend from several public models (column f0)."""
    found = sorted(set(table.f0))
    if len(found) > 1:
        counts = ", ".join(f"{(table.f0 == f0).sum()} from {f0}" for f0 in found)
        raise MixedEvidence(
            f"one table may not mix rows that descend from different public models: {counts}. "
            "Keep one group, or record the others again"
        )
    return table


def read(family: str) -> pd.DataFrame:
    """The recorded matrix of a family of profiles, a row a cell; a FileNotFoundError says how to make it."""
    return of_one_model(records.read_table(records.table_path(family, records.MATRIX), "make matrix"))


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """The path of each cell that was defended: profile, attack, defense, seed, step, and the rates there."""
    rows = [
        {**{key: cell[key] for key in records.KEYS}, **point}
        for cell in table.to_dict("records")
        for point in json.loads(cell["curve"])
    ]
    return pd.DataFrame(rows)


def rows(profile: str) -> pd.DataFrame:
    """Tidy rows {profile, attack, defense, seed, metric, value} of everything that is recorded of a profile: its
    own records, and the cells of the matrix that these do not hold. Headline metrics; fractions 0–1, seconds in
    s. Raises FileNotFoundError when neither knows the profile.
    """
    keys = list(records.KEYS)
    found, path = pd.DataFrame(columns=keys), records.table_path(profiles.get(profile).family, records.MATRIX)
    if path.exists():
        found = read(profiles.get(profile).family).query("profile == @profile")
    melted = found.melt(keys, [m for m in tables.HEADLINE if m in found], "metric").dropna(subset="value")
    if (paths.results() / profile).is_dir() or melted.empty:
        own = tables.rows(profile)
        melted = pd.concat([own[own.metric.isin(tables.HEADLINE)], melted])
    return melted.drop_duplicates([*keys, "metric"]).sort_values([*keys, "metric"], ignore_index=True)
