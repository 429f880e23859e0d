"""The cells of a recorded matrix, and what else is recorded of a profile. Loads no model."""

from __future__ import annotations

import json

import pandas as pd

from ubt_utils import profiles
from ubt_utils.core import paths, records
from ubt_utils.report import evidence, tables
from ubt_utils.report.evidence import MixedEvidence, of_one_model

__all__ = ["STUDY", "MixedEvidence", "curves", "of_one_model", "read", "rows"]

STUDY = "first-study"  # the family whose matrix the tables of defenses, attacks and attackers read


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
    """Tidy rows {profile, attack, defense, seed, metric, value} of everything that is recorded of a profile:
    its own records, and the cells of the matrix that these do not hold. Headline metrics; fractions 0–1,
    seconds in s. Raises FileNotFoundError when neither knows the profile, MixedEvidence where they do not
    go together.
    """
    keys, matrix = list(records.KEYS), pd.DataFrame(columns=[*records.KEYS, "f0"])
    family = profiles.get(profile).family
    if records.table_path(family, records.MATRIX).exists():
        matrix = read(family).query("profile == @profile")
    melted = matrix.melt(keys, [m for m in tables.HEADLINE if m in matrix], "metric").dropna(subset="value")
    if melted.empty or any((paths.results() / profile).glob("*-*-*.json")):
        own = evidence.read(profile)
        of_one_model(pd.concat([evidence.traced(own), matrix.filter(["f0", "stages", "contents"])]))
        headline = tables.tidy(own).query("metric in @tables.HEADLINE")
        melted = pd.concat([headline, melted]) if len(melted) else headline
    return melted.drop_duplicates([*keys, "metric"]).sort_values([*keys, "metric"], ignore_index=True)
