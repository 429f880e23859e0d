"""What detectors are worth on the same poisoned sets, from the record. Loads no model."""

from __future__ import annotations

import pandas as pd

from ubt_utils.core import records
from ubt_utils.report import evidence

NOISE_STUDY = "noise-study"  # older than the first study, and of another public model


def read(family: str = NOISE_STUDY) -> pd.DataFrame:
    """The recorded rows; a FileNotFoundError says how to make them, MixedEvidence if they do not agree."""
    path = records.table_path(family, records.DETECTORS)
    return evidence.of_one_model(records.read_table(path, "python -m ubt_utils detectors"))


def at_all_noises(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the attacks and seeds that were scored at every rate of caption noise; MixedEvidence where
    they descend from several public models."""
    rates = table.groupby(["attack", "seed"]).noise.transform("nunique")
    return evidence.of_one_model(table[rates == table.noise.nunique()])


def by_noise(table: pd.DataFrame, measure: str = "average_precision") -> pd.DataFrame:
    """Mean of one measure over the attacks and seeds that all noise rates have: a row per detector, best
    first; a column per noise rate."""
    found = at_all_noises(table).pivot_table(index="detector", columns="noise", values=measure)
    return found.loc[found.mean(axis=1).sort_values(ascending=measure == "fpr_at_95_tpr").index]
