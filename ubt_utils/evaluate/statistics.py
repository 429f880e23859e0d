"""How sure a mean over attacks and seeds is: intervals, and paired tests, corrected for their number."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

PAIR = ["profile", "attack", "seed"]
LEVEL = 0.95


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t; the mean itself twice where all values are equal.

    Raises ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}")
    mean = float(values.mean())
    if _alike(values):
        return mean, mean
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, values.sem())
    return float(low), float(high)


def _alike(values: pd.Series) -> bool:
    return bool(np.isclose(values, values.iloc[0], rtol=0, atol=1e-12).all())


def means(table: pd.DataFrame, metric: str, by: list[str]) -> pd.DataFrame:
    """Mean, 95 % interval and number of runs of one metric per group; table: a row a run."""
    rows = {}
    for key, values in table.dropna(subset=metric).groupby(by if len(by) > 1 else by[0])[metric]:
        low, high = interval(values)
        rows[key] = {"mean": values.mean(), "low": low, "high": high, "runs": len(values)}
    return pd.DataFrame(rows).T.rename_axis(by).astype({"runs": int})


def paired(table: pd.DataFrame, metric: str, defense: str = "ubt") -> pd.DataFrame:
    """One defense minus each other, on the same profile, attack and seed: mean difference, 95 % interval,
    the p of a paired t test, and p after Holm's correction for the number of comparisons.

    table: rows {profile, attack, defense, seed, metric}. Only pairs that both have count. Raises
    ValueError where a pair of defenses shares fewer than two.
    """
    wide = table.pivot(index=PAIR, columns="defense", values=metric)
    rows = {}
    for other in wide.columns.drop(defense):
        both = wide[[defense, other]].dropna()
        difference = both[defense] - both[other]
        low, high = interval(difference)
        p = 1.0 if np.allclose(difference, 0, rtol=0, atol=1e-12) else 0.0
        if not _alike(difference):  # a t test of equal differences is not defined
            p = stats.ttest_rel(both[defense], both[other]).pvalue
        measured = {"difference": difference.mean(), "low": low, "high": high}
        rows[other] = measured | {"pairs": len(difference), "p": p}
    found = pd.DataFrame(rows).T.rename_axis("against").astype({"pairs": int})
    found["p (Holm)"] = multipletests(found.p, method="holm")[1]
    return found
