"""How sure a mean over runs is: intervals, bounds, paired differences and tests, equivalence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

PAIR = ["profile", "attack", "seed"]
LEVEL = 0.95
AT_ONCE = 1000  # draws of a bootstrap whose weights are in memory
BAR = 0.05  # the highest ASR of a model whose backdoor is removed


class Estimate(NamedTuple):
    """A mean and its interval."""

    mean: float
    low: float
    high: float


class Failures(NamedTuple):
    """How many clusters failed, of how many."""

    failed: int
    clusters: int


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


def upper_bound(hits: float, n: int, level: float = LEVEL) -> float:
    """The one-sided upper bound, by Clopper and Pearson, of a rate of `hits` in n; hits may be expected
    ones, so fractions. ValueError unless 0 ≤ hits ≤ n and n ≥ 1."""
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"a bound needs 0 ≤ hits ≤ n and n ≥ 1, got {hits} of {n}")
    return float(proportion_confint(hits, n, alpha=2 * (1 - level), method="beta")[1])


def cluster_bootstrap(
    values: np.ndarray, draws: int = 10_000, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """The mean of values (clusters, drawings) and its percentile interval, where both the clusters (trained
    models) and the drawings (test pictures) are a sample: each draw takes as many of either with replacement,
    independently (the pigeonhole bootstrap, Owen, arXiv 0712.1111, which errs to the wide side). NaN: not
    measured, and left out. ValueError for fewer than two of either, or where nothing was measured.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"at least two clusters and two drawings are needed, got shape {values.shape}")
    there = ~np.isnan(values)
    if not there.any():
        raise ValueError("nothing was measured: all values are NaN")
    rows, columns = _resamples(values.shape, draws, seed)
    total = _weighted(np.where(there, values, 0), rows, columns)
    weight = np.full(draws, values.size) if there.all() else _weighted(there, rows, columns)
    means = np.divide(total, weight, out=np.full(draws, np.nan), where=weight > 0)
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, (tail, 1 - tail))
    return Estimate(float(values[there].mean()), float(low), float(high))


def _weighted(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(draws,): the sums of values (clusters, drawings), each as often as a draw takes it."""
    parts = [
        (rows[start : start + AT_ONCE] * (columns[start : start + AT_ONCE].astype(float) @ values.T)).sum(1)
        for start in range(0, len(rows), AT_ONCE)
    ]
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _resamples(shape: tuple[int, int], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(draws, clusters) and (draws, drawings): how often a draw takes each. Every rate of a table asks for
    the same ones, and to draw them is most of what an interval costs."""
    rng, parts = np.random.default_rng(seed), []
    for start in range(0, draws, AT_ONCE):
        parts.append([_resampled(rng, min(AT_ONCE, draws - start), size) for size in shape])
    rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    for one in (rows, columns):
        one.setflags(write=False)
    return rows, columns


def _resampled(rng: np.random.Generator, draws: int, size: int) -> np.ndarray:
    """(draws, size): how often each of `size` is drawn, when as many are drawn with replacement."""
    chosen = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=draws * size).reshape(draws, size)
    return counts.astype(np.uint16)  # small, as they are kept; nothing is drawn 65,536 times


def difference(
    one: np.ndarray, other: np.ndarray, draws: int = 10_000, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """One minus the other, both (clusters, drawings) of the same clusters and drawings, by
    `cluster_bootstrap`; what either lacks (NaN) does not count. ValueError for unequal shapes."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.shape != other.shape:
        raise ValueError(f"a paired difference needs equal shapes, got {one.shape} and {other.shape}")
    return cluster_bootstrap(one - other, draws, seed, level)


def equivalent(low90: float, high90: float, margin: float) -> bool:
    """Whether a difference is too small to matter, by two one-sided tests at 5 % (Schuirmann, 1987): its 90 %
    interval lies within ± margin; False where an end is NaN. ValueError unless margin > 0 and low ≤ high."""
    if not margin > 0 or low90 > high90:
        raise ValueError(f"equivalence needs margin > 0 and low ≤ high, got ±{margin}, {low90} to {high90}")
    return bool(-margin < low90 and high90 < margin)


def failures(rates: Sequence[float], clusters: Sequence[str], bar: float = BAR) -> Failures:
    """Clusters with a run whose rate is above `bar`, and how many clusters there are; rates and clusters:
    one a run. Runs that were not measured (NaN) do not count. ValueError for unequal lengths."""
    if len(rates) != len(clusters):
        raise ValueError(f"a cluster for each run is needed, got {len(clusters)} for {len(rates)} runs")
    runs = pd.DataFrame({"rate": np.asarray(rates, float), "cluster": list(clusters)}).dropna(subset="rate")
    worst = runs.groupby("cluster").rate.max()
    return Failures(int((worst > bar).sum()), len(worst))
