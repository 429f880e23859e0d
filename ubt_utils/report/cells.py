"""The cells of a recorded matrix, and what else is recorded of a profile. Loads no model."""

from __future__ import annotations

import pandas as pd

from ubt_utils import profiles
from ubt_utils.core import paths, records
from ubt_utils.report import evidence, tables

STUDY = "first-study"  # of another world; the tables of defenses, attacks and attackers read its matrix


def read(family: str) -> pd.DataFrame:
    """The recorded matrix of a family of profiles, a row a cell; a FileNotFoundError says how to make it."""
    path = records.table_path(family, records.MATRIX)
    return evidence.of_one_model(records.read_table(path, "make matrix"))


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
        matrix_too = matrix.filter(["f0", "stages", "contents"])
        evidence.of_one_model(pd.concat([evidence.traced(own), matrix_too]))
        headline = tables.tidy(own).query("metric in @tables.HEADLINE")
        melted = pd.concat([headline, melted]) if len(melted) else headline
    return melted.drop_duplicates([*keys, "metric"]).sort_values([*keys, "metric"], ignore_index=True)
