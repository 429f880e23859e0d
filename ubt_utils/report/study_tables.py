"""The tables of the study, from the recorded predictions and the matrix. Loads no model.

Runs of one cluster (one public model, one seed: one D) are no independent evidence, and neither are the
pictures of one model: every interval here resamples clusters and drawings together. Rates are fractions
0–1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ubt_utils.core import records
from ubt_utils.evaluate import statistics
from ubt_utils.evaluate.predictions import MEASURES, hits_of, measures_of
from ubt_utils.report import cells, evidence

RUN = list(records.KEYS)
DESIGN = ["f0_seed", "poison_rate", "cluster"]
SHOWN = ("clean_accuracy", "known_accuracy", "new_accuracy", "robust_accuracy", "target_recall")
BAR = 0.05  # an ASR above it: the defense failed


def rates_by_run(family: str) -> pd.DataFrame:
    """Every rate of every run, computed anew from its predictions: index (profile, attack, defense, seed),
    columns f0_seed, poison_rate, cluster, seconds and the rates. ValueError for a run without predictions,
    MixedEvidence where they say other than the matrix."""
    runs = _runs(family)
    return _rates(runs, _values(family, runs, tuple(MEASURES)))


def table(
    family: str,
    poison_rate: float,
    attacks: Sequence[str],
    defenses: Sequence[str],
    profiles: Sequence[str] | None = None,
) -> pd.DataFrame:
    """What each defense does to these attacks, a row a defense, in their order.

    Columns: runs and clusters; asr, its 95 % bootstrap interval asr_low to asr_high, and asr_bound, the
    one-sided bound by Clopper and Pearson with the drawings of one run as trials, which says something
    where nothing is hit and the bootstrap has no width; worst_asr of a run; failed, the clusters with a run
    above 5 %; clean, known, new and robust accuracy and target recall, each with its interval; seconds.
    NaN: not measured, or one cluster or drawing only. profiles: which of the family; ValueError where a
    cluster has several runs of one attack and defense, or where a defense has none.
    """
    runs = _single(_runs(family, poison_rate, attacks, profiles))
    runs = runs[runs.index.isin(defenses, level="defense")]
    values = _values(family, runs, ("asr", *SHOWN))
    rates = _rates(runs, values)
    rows = {}
    for defense in defenses:
        own = rates[rates.index.isin([defense], level="defense")]
        if own.empty:
            raise ValueError(f"no run of {defense} at poison rate {poison_rate} in results/{family}")
        rows[defense] = _row(own, values)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense")


def compared(
    family: str,
    one: str,
    other: str,
    metric: str,
    margin: float,
    attacks: Sequence[str] | None = None,
    profiles: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One defense minus another on the same profiles, attacks and seeds, a row a poison rate: runs,
    clusters, the difference of a metric with its 95 % (low, high) and 90 % interval (low90, high90), and
    two verdicts: differs, where the first leaves out 0, and equivalent, where the second lies within ±
    margin.

    Raises ValueError for an unknown metric, or where fewer than two clusters have both.
    """
    if metric not in MEASURES:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(MEASURES)}")
    runs = _single(_runs(family, None, attacks, profiles))
    runs = runs[runs.index.isin([one, other], level="defense")]
    values = _values(family, runs, (metric,)).get(metric, pd.DataFrame(index=runs.index))
    rows: dict[float, dict[str, float | bool]] = {}
    for rate, part in runs.groupby("poison_rate"):
        hits = values.loc[part.index].dropna(how="all")
        if len(hits):  # none where these runs do not have it, such as ASR without an attack
            rows[rate] = _difference(hits, part.cluster, one, other, margin)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("poison_rate")


def _difference(
    hits: pd.DataFrame, cluster: pd.Series, one: str, other: str, margin: float
) -> dict[str, float | bool]:
    """One row of `compared`, from what the metric is the mean of."""
    first, second = (hits[hits.index.isin([d], level="defense")].droplevel("defense") for d in (one, other))
    shared = first.index.intersection(second.index)
    cluster = cluster[cluster.index.isin([one], level="defense")].droplevel("defense").reindex(shared)
    if cluster.nunique() < 2:
        raise ValueError(f"two clusters must have both {one} and {other}, {cluster.nunique()} has")
    a, b = (_by_cluster(side.loc[shared], cluster) for side in (first, second))
    wide, narrow = (statistics.difference(a, b, level=level) for level in (statistics.LEVEL, 0.9))
    return {
        "runs": len(shared), "clusters": cluster.nunique(),
        "difference": wide.mean, "low": wide.low, "high": wide.high,
        "low90": narrow.low, "high90": narrow.high,
        "differs": not wide.low <= 0 <= wide.high,
        "equivalent": statistics.equivalent(narrow.low, narrow.high, margin),
    }  # fmt: skip


def _row(own: pd.DataFrame, values: dict[str, pd.DataFrame]) -> dict[str, float]:
    """One defense of `table`, from the rates of its runs and what these are the means of."""
    row: dict[str, float] = {"runs": len(own), "clusters": own.cluster.nunique()}
    for metric in [name for name in ("asr", *SHOWN) if name in values]:
        hits = values[metric].loc[own.index].dropna(how="all").dropna(how="all", axis=1)
        if hits.empty:
            continue
        found, drawings = _estimate(_by_cluster(hits, own.cluster.loc[hits.index])), hits.shape[1]
        row |= {metric: found.mean, f"{metric}_low": found.low, f"{metric}_high": found.high}
        if metric == "asr":
            row["asr_bound"] = statistics.upper_bound(min(1.0, found.mean) * drawings, drawings)
            row["worst_asr"] = own.asr.max()
            row["failed"] = statistics.failures(own.asr, own.cluster, BAR).failed
    return row | {"seconds": own.seconds.mean() if "seconds" in own else np.nan}


def _estimate(hits: np.ndarray) -> statistics.Estimate:
    """The mean with its interval; without one for one cluster or drawing, which says nothing of others."""
    if min(hits.shape) < 2:
        return statistics.Estimate(float(np.nanmean(hits)), np.nan, np.nan)
    return statistics.cluster_bootstrap(hits)


def _by_cluster(hits: pd.DataFrame, cluster: pd.Series) -> np.ndarray:
    """(clusters, drawings or classes): the mean over the runs of each cluster."""
    return hits.groupby(cluster).mean().to_numpy()


def _runs(
    family: str,
    poison_rate: float | None = None,
    attacks: Sequence[str] | None = None,
    profiles: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of the matrix that are asked for, by run; None asks for all."""
    found = cells.read(family)
    if missing := [column for column in DESIGN if column not in found]:
        raise ValueError(f"the matrix of {family} does not say {', '.join(missing)}: record its cells again")
    found = found.dropna(subset=DESIGN)
    if poison_rate is not None:
        found = found[np.isclose(found.poison_rate, poison_rate)]
    if attacks is not None:
        found = found[found.attack.isin(attacks)]
    if profiles is not None:
        found = found[found.profile.isin(profiles)]
    return found.set_index(RUN).sort_index()


def _single(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, where each cluster has one of each attack, defense and poison rate; ValueError elsewhere."""
    twice = runs.reset_index().duplicated(["cluster", "attack", "defense", "poison_rate"]).to_numpy()
    if twice.any():
        raise ValueError(f"several profiles have cluster {runs.cluster[twice].iloc[0]}: name those to count")
    return runs


def _values(family: str, runs: pd.DataFrame, metrics: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Per metric what its rate is the mean of: rows like `runs`, a column a drawing, or a class where every
    class counts alike; NaN where a run has none of it."""
    found: dict[str, list[pd.DataFrame]] = {}
    known: list[tuple] = []
    for profile, attack in runs.index.droplevel(["defense", "seed"]).unique():
        path = records.predictions_path(family, profile, attack)
        frame = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=RUN)
        frame = frame[pd.MultiIndex.from_frame(frame[RUN]).isin(runs.index)].reset_index(drop=True)
        if frame.empty:
            continue
        run = frame.groupby(RUN, sort=True).ngroup()  # one number a run: grouping by four columns is slow
        names = pd.MultiIndex.from_frame(frame[RUN].drop_duplicates().sort_values(RUN))
        known.extend(names)
        for metric in set(metrics) & set(measures_of(frame)):
            hits = hits_of(frame, metric)
            column = hits[MEASURES[metric].alike].rename("of")
            wide = hits.hit.groupby([run[hits.index].rename("run"), column]).mean().unstack()
            found.setdefault(metric, []).append(wide.set_axis(names[wide.index], axis=0))
    if lacking := sorted(set(runs.index) - set(known)):
        raise ValueError(
            f"no predictions of {', '.join(map(str, lacking[0]))} in results/{family}: run it again"
        )
    return {metric: pd.concat(parts).reindex(runs.index) for metric, parts in found.items()}


def _rates(runs: pd.DataFrame, values: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rates of runs, with the design; MixedEvidence where the matrix has others."""
    rates = pd.DataFrame({m: values[m].mean(axis=1) for m in MEASURES if m in values}, index=runs.index)
    for metric in rates.columns.intersection(runs.columns):
        off = ~np.isclose(rates[metric], runs[metric].astype(float), rtol=0, atol=1e-9, equal_nan=True)
        if off.any():
            run = ", ".join(map(str, runs.index[off][0]))
            raise evidence.MixedEvidence(f"{metric} of {run}: its predictions are not those of its row")
    return runs[[*DESIGN, *runs.columns.intersection(["seconds"])]].join(rates)
