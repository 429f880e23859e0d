"""The tables of the study, from the recorded predictions and the matrix. Loads no model.

Runs of one cluster (one public model, one seed: one D) are no independent evidence, and neither are the
pictures of one model: every interval here resamples clusters and drawings together. Rates are fractions
0–1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from ubt_utils import profiles as settings
from ubt_utils.baselines import defenses as registry
from ubt_utils.core import records
from ubt_utils.core.records import NONE
from ubt_utils.evaluate import statistics
from ubt_utils.evaluate.predictions import MEASURES, hits_of, measures_of
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.profiles.rounds import Round
from ubt_utils.report import cells, evidence
from ubt_utils.ubt.select import decisive
from ubt_utils.ubt.settings import UBT
from ubt_utils.ubt.variants import LADDER

Among = Sequence[str] | Round | None  # whose runs: of profiles by name, of a round, or all
STUDY = tuple(p.name for p in (settings.MINI, *settings.PUBLIC, *settings.RARE))  # profiles of the study
EDGES = tuple(p.name for p in (*settings.EDGES, settings.SCRATCH))  # beyond it
RUN = list(records.KEYS)
DESIGN = ["f0_seed", "poison_rate", "cluster"]
SHOWN = ("clean_accuracy", "known_accuracy", "new_accuracy", "robust_accuracy", "target_recall")
BETTER = {"asr": -1, "clean_accuracy": 1, "robust_accuracy": 1, "target_recall": 1}  # sign of the better
FACES = ("asr", "clean_accuracy")  # what a rival is compared by
DEVELOPMENT = (0, 1, 2, 3)  # seeds on which detection's settings were chosen
CLEAN_DEVELOPMENT = (*DEVELOPMENT, 4)  # and those of clean sets
CLEAN_MARGIN, ROBUST_MARGIN = 0.01, 0.05  # what may be lost: results/ENDPOINTS.md
RETAIN = "ubt-retain"  # UBT without the push
RUNGS = (*(rung.name for rung in LADDER), UBT)
F0, TWIN = "f0, untouched", "clean twin"
TOLD = ["words", "right", "others", "lost", "honest"]  # what detection said of a run
COUNTS = {  # of the matrix, as `detection` calls them
    "pool_recall": "pool", "chosen": "chosen", "chosen_poisoned": "chosen_poisoned", "poisonous": "flagged",
    "poisonous_poisoned": "flagged_poisoned", "poisoned": "poisoned",
}  # fmt: skip


def recorded(
    family: str,
    poison_rate: float | None = None,
    attacks: Sequence[str] | None = None,
    defenses: Sequence[str] | None = None,
    profiles: Among = None,
) -> pd.DataFrame:
    """The runs of the matrix that are asked for, as they are recorded; None asks for all. Index (profile,
    attack, defense, seed). ValueError where the matrix does not say f0_seed, poison_rate and cluster."""
    runs = _runs(family, poison_rate, attacks, profiles)
    return runs if defenses is None else runs[runs.index.isin(defenses, level="defense")]


def known(
    family: str,
    poison_rate: float,
    wanted: Sequence[str],
    profiles: Among = None,
    attacks: Sequence[str] | None = None,
) -> list[str]:
    """Those of the wanted defenses that have a run at this poison rate, under one of the attacks where some
    are named, in their order."""
    there = set(_runs(family, poison_rate, attacks, profiles).index.get_level_values("defense"))
    return [name for name in wanted if name in there]


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
    profiles: Among = None,
    sure: Sequence[str] = ("asr", *SHOWN),
) -> pd.DataFrame:
    """What each defense does to these attacks, a row a defense, in their order.

    Columns: runs and clusters; asr, its 95 % bootstrap interval asr_low to asr_high, and asr_bound, the
    one-sided bound by Clopper and Pearson with the drawings of one run as trials, which says something
    where nothing is hit and the bootstrap has no width; worst_asr of a run; failed, the clusters with a run
    above 5 %; clean, known, new and robust accuracy and target recall, each with its interval; seconds.
    NaN: not measured, or one cluster or drawing only. profiles: which of the family; sure: the rates that
    get an interval, each about a second; ValueError where a cluster has several runs of one attack and
    defense, or where a defense has none.
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
        rows[defense] = _row(own, values, sure)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense")


def compared(
    family: str,
    one: str,
    other: str,
    metric: str,
    margin: float,
    attacks: Sequence[str] | None = None,
    profiles: Among = None,
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
        if len(hits) and (row := _difference(hits, part.cluster, one, other, margin)):
            rows[rate] = row  # none where these runs do not have it, such as ASR without an attack
    if not rows:
        raise ValueError(f"no run in results/{family} has both {one} and {other}")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("poison_rate")


def rivals(
    family: str,
    poison_rate: float | None,
    attacks: Sequence[str],
    defenses: Sequence[str],
    profiles: Among = None,
) -> pd.DataFrame:
    """Each of these defenses minus UBT on the runs that both have, a row a defense, the lowest ASR first:
    runs, clusters, and the differences asr and clean_accuracy, each with its 95 % bootstrap interval (_low,
    _high; NaN for one cluster). Those that share no run with UBT are left out; ValueError where none does.
    """
    runs = _single(_runs(family, poison_rate, attacks, profiles))
    runs = runs[runs.index.isin([UBT, *defenses], level="defense")]
    values = _values(family, runs, FACES)
    rows = {name: _beside(values, runs.cluster, name) for name in defenses if name != UBT}
    found = pd.DataFrame.from_dict({name: row for name, row in rows.items() if row}, orient="index")
    if found.empty:
        raise ValueError(f"no run in results/{family} has both {UBT} and one of {', '.join(defenses)}")
    return found.rename_axis("defense").sort_values("asr", kind="stable")


def standing(
    family: str,
    poison_rate: float | None,
    attacks: Sequence[str],
    defenses: Sequence[str],
    profiles: Among = None,
) -> pd.DataFrame:
    """Which of these defenses frees most clusters, the best by the rule of results/ENDPOINTS.md first: fewest
    failed clusters, then highest clean accuracy. Columns: runs, clusters, failed (with a run above 5 %),
    low and high, the exact 95 % interval of that share (Clopper and Pearson), mean and worst ASR, mean
    clean accuracy and target recall, and whole: whether it has every run that any of them has. Those that
    have not come last. Empty where none has a run.
    """
    runs = _single(_runs(family, poison_rate, attacks, profiles))
    runs = runs[runs.index.isin(defenses, level="defense")]
    if runs.empty:
        return pd.DataFrame()
    met = runs.index.droplevel("defense").nunique()
    rows = {}
    for name, own in runs.groupby("defense"):
        rates = {rate: own[rate].mean() for rate in ("clean_accuracy", "target_recall")}
        rows[name] = {**_failures(own), **rates, "whole": len(own) == met}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense")
    return found.sort_values(["whole", "failed", "clean_accuracy"], ascending=[False, True, False])


def _beside(values: dict[str, pd.DataFrame], cluster: pd.Series, name: str) -> dict[str, float]:
    """One row of `rivals`; empty where no run has both."""
    row: dict[str, float] = {}
    for metric in FACES:
        if (paired := _less(values[metric].dropna(how="all"), cluster, name, UBT)) is not None:
            less, size = paired
            row |= size
            row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = _estimate(less)
    return row


def untouched(
    family: str,
    poison_rate: float,
    attacks: Sequence[str],
    profiles: Among = None,
    metrics: Sequence[str] = ("asr", *SHOWN),
) -> pd.DataFrame:
    """What there is to lose, mean over the clusters of the attacked runs: the public model as it is, and the
    clean twin of the victim. Columns as in `table` where they are known, without intervals."""
    runs = recorded(family, poison_rate, attacks, [NONE], profiles)
    rows = {}
    for title, before in ((F0, "public_"), (TWIN, "twin_")):
        named = {f"{before}{name}": name for name in metrics if f"{before}{name}" in runs}
        mean = runs[list(named)].rename(columns=named).astype(float).mean()
        rows[title] = {"runs": len(runs), "clusters": runs.cluster.nunique(), **mean}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense")


LOSSES = ("poison_rate", "metric", "defense", "runs", "clusters", "ubt", "other", "behind", "runs behind")


def losses(
    family: str,
    attacks: Sequence[str],
    defenses: Sequence[str] | None = None,
    profiles: Among = None,
) -> pd.DataFrame:
    """UBT against every other defense on the runs that both have, mean over them, where UBT loses first.

    Columns: poison_rate, metric, defense, runs, clusters, ubt, other, behind (by how much UBT is the worse,
    negative where it is the better), and on how many of the runs it is. Equal is not better. No rows where no
    other defense is recorded.
    """
    found = recorded(family, None, attacks, None, profiles).drop(NONE, level="defense", errors="ignore")
    own = found.xs(UBT, level="defense")
    rows = []
    for (rate, defense), runs in found.groupby(["poison_rate", "defense"]):
        runs = runs.droplevel("defense")
        shared = runs.index.intersection(own.index)
        if defense == UBT or (defenses is not None and defense not in defenses) or shared.empty:
            continue
        for metric, sign in BETTER.items():
            ubt, other = own.loc[shared, metric].astype(float), runs.loc[shared, metric].astype(float)
            behind = sign * (other - ubt)
            if behind.notna().any():
                count, clusters = len(shared), runs.cluster[shared].nunique()
                means = ubt.mean(), other.mean(), behind.mean()
                rows.append((rate, metric, defense, count, clusters, *means, int((behind > 0).sum())))
    return pd.DataFrame(rows, columns=list(LOSSES)).sort_values("behind", ascending=False, ignore_index=True)


def push(family: str, attacks: Sequence[str] | None = None, profiles: Among = None) -> pd.DataFrame:
    """What the push brings, a row a run: ASR of the retain-only control, of UBT, and the first less the
    second (push); where it brings least comes first. Its interval: `compared(family, "ubt-retain", "ubt",
    "asr", …)`."""
    runs = recorded(family, None, attacks, [UBT, RETAIN], profiles)
    wide = runs.asr.astype(float).unstack("defense").reindex(columns=[RETAIN, UBT]).dropna()
    keep = runs[DESIGN].xs(UBT, level="defense").loc[wide.index]
    found = keep.join(wide).assign(push=wide[RETAIN] - wide[UBT])
    return found.sort_values("push", kind="stable")


def rungs(family: str, poison_rate: float, attacks: Sequence[str], profiles: Among = None) -> pd.DataFrame:
    """The runs of every rung of the ladder that is recorded, where all of these rungs have one."""
    runs = recorded(family, poison_rate, attacks, RUNGS, profiles)
    count = runs.groupby(level=[name for name in RUN if name != "defense"]).size()
    whole = count.index[count == runs.index.get_level_values("defense").nunique()]
    return runs[runs.index.droplevel("defense").isin(whole)]


def ladder(family: str, poison_rate: float, attacks: Sequence[str], profiles: Among = None) -> pd.DataFrame:
    """The method, a part at a time, a row a rung that is recorded, on the runs of `rungs`: what it does in
    words, runs, clusters, mean and worst ASR, failed clusters, clean and robust accuracy, target recall; and
    the change of ASR, CA and target recall against the rung before."""
    runs = rungs(family, poison_rate, attacks, profiles)
    rows, before = {}, None
    for name in [rung for rung in RUNGS if rung in runs.index.get_level_values("defense")]:
        own = runs.xs(name, level="defense")
        rates = own[["asr", "clean_accuracy", "robust_accuracy", "target_recall"]].astype(float)
        failed = statistics.failures(own.asr, own.cluster).failed
        rows[name] = {
            "what": registry.get(name).changed or "the whole method",
            "runs": len(own), "clusters": own.cluster.nunique(), "asr": rates.asr.mean(),
            "worst_asr": rates.asr.max(), "failed": failed, **rates.mean().drop("asr"),
        }  # fmt: skip
        if before is not None:
            step = (rates - before).mean()
            rows[name] |= {"asr change": step.asr, "CA change": step.clean_accuracy}
            rows[name] |= {"recall change": step.target_recall}
        before = rates
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense")


def paths(
    family: str,
    poison_rate: float | None = None,
    attacks: Sequence[str] | None = None,
    defenses: Sequence[str] | None = None,
    profiles: Among = None,
) -> pd.DataFrame:
    """The way of every defense, a row a point: the run, its design, step, part of the victim's cost (in
    pairs, detection included), seconds, asr, clean_accuracy and what else is read on the way (on a part of
    the test's pictures), held_out, the loss by which a defender may stop.

    A defense that trains nothing has one point, its end: at no cost, or, where it looked for a backdoor and
    found none, at a part that is not recorded (NaN).
    """
    runs = recorded(family, poison_rate, attacks, defenses, profiles).drop(
        NONE, level="defense", errors="ignore"
    )
    rows = []
    for key, run in zip(runs.index, runs.to_dict("records"), strict=True):
        kept = dict(zip(RUN, key, strict=True)) | {name: run[name] for name in DESIGN}
        rows += [{**kept, **point} for point in json.loads(run["curve"]) or [_end(run)]]
    return pd.DataFrame(rows)


def _end(run: dict) -> dict[str, float]:
    """The only point of a run that trained nothing."""
    free = 0.0 if not run.get("detection_seconds") else np.nan
    rates = {name: run[name] for name in BETTER if name in run}
    return {"step": 0, "part": free, "seconds": run["seconds"], **rates}


def first_holds(found: pd.DataFrame, bar: float = statistics.BAR) -> pd.DataFrame:
    """Where each path's ASR first is at most `bar` and stays there to the end; found: `paths`. A row a run:
    its design, and step, part, seconds, asr and clean_accuracy of that point, NaN where there is none. The
    runs that never hold come first, then the dearest."""
    rows = {}
    for key, way in _ways(found.dropna(subset="asr")):
        held = (way.asr <= bar)[::-1].cummin()[::-1]
        rows[key] = way[held].iloc[0] if held.any() else pd.Series(dtype=float)
    return _points(rows).sort_values("part", ascending=False, na_position="first", kind="stable")


def stopped(found: pd.DataFrame, after: int = 0) -> pd.DataFrame:
    """Where each path stops by one rule for all, which asks for neither labels nor a trigger: the mark of its
    lowest held-out loss, the first of equal ones; found: `paths`. after: steps that every path goes at least.
    A row a run, as in `first_holds`, the highest ASR first, and whether that is its last mark."""
    rows, last = {}, {}
    for key, way in _ways(found):
        way = way[way.step >= after] if (way.step >= after).any() else way
        chosen = 0 if "held_out" not in way or way.held_out.isna().all() else int(way.held_out.argmin())
        rows[key], last[key] = way.iloc[chosen], chosen == len(way) - 1
    return _points(rows).assign(last=list(last.values())).sort_values("asr", ascending=False, kind="stable")


def _ways(found: pd.DataFrame):
    """(run and design, its points by step), run by run."""
    for key, way in found.groupby([*RUN, *DESIGN], sort=False):
        yield key, way.sort_values("step", kind="stable")


def _points(rows: dict[tuple, pd.Series]) -> pd.DataFrame:
    """A point a run: index RUN, the design, and what is read there."""
    names = ["step", "part", "seconds", *BETTER, "held_out"]
    index = pd.MultiIndex.from_tuples(rows, names=[*RUN, *DESIGN])
    found = pd.DataFrame([row.reindex(names).astype(float) for row in rows.values()], index=index)
    return found.reset_index(DESIGN)


def detection(family: str, profiles: Among = None, attacks: Sequence[str] | None = None) -> pd.DataFrame:
    """What UBT's detection came to, a row a run (profile, attack, seed), worst first.

    Columns: words that it found; right, whether one of the target's names is among them (of a clean set:
    whether there are none); others, how many it found beside; lost and honest, the agreement that the
    pictures of the target's words lose at most, and those of any other word that is found, or that is asked
    about when the pairs of all found words have stepped aside (where traces decided, how far they move other
    pictures); pool, the part of
    the poison in it; chosen pairs (D_u), how many of them are poisoned, and that as a part (precision);
    flagged pairs, those that suffer like poison in the pool and outside, how many of them are poisoned; and
    poisoned, of how many. NaN: not recorded, or nothing there.
    """
    runs = recorded(family, None, attacks, [UBT], profiles).droplevel("defense")
    runs = runs[runs.anchors.notna()]
    kept = [name for name in COUNTS if name in runs]
    found = runs[DESIGN].join(runs[kept].astype(float).rename(columns=COUNTS))
    found = found.reindex(columns=[*DESIGN, *COUNTS.values()])
    told = [_told(name, run) for name, run in zip(runs.index, runs.to_dict("records"), strict=True)]
    found = pd.DataFrame(told, runs.index, TOLD).join(found)
    found["precision"] = found.chosen_poisoned / found.chosen
    found = found[[*DESIGN, *TOLD, *COUNTS.values(), "precision"]]
    return found.sort_values(["right", "others", "pool"], ascending=[True, False, True], kind="stable")


def _told(key: tuple, run: dict) -> dict[str, object]:
    """What detection said of one run, in words."""
    profile, attack, _ = key
    target, words = _target_words(profile), json.loads(run["anchors"])
    right = [word in target for word in words]
    asked = json.loads(run["asked"]) if isinstance(run.get("asked"), str) else []
    true = [one["lost"] for one in asked if one["word"] in target]
    other = [one["lost"] for one in decisive(asked, words) if one["word"] not in target]
    return {
        "words": ", ".join(words), "right": not words if attack == NONE else any(right),
        "others": len(words) - sum(right), "lost": max(true, default=np.nan),
        "honest": max(other, default=np.nan),
    }  # fmt: skip


@cache
def _target_words(profile: str) -> frozenset[str]:
    """The words, and marks such as the one in "o'clock", of the names of a profile's target class."""
    sets = settings.get(profile).sets
    names = " ".join(sets.class_names()[sets.target]).replace("’", "'").lower()
    return frozenset(re.findall(r"\w+|[^\w\s]", names))


def nothing_found(family: str, profiles: Among = None) -> pd.DataFrame:
    """How often detection is right: clean sets of which it says that nothing is there, and attacked ones,
    per poison rate and by the attacks of the study, of which it finds a word of the target's names; those of
    seeds that detection's settings were chosen on, and the others. Columns: sets, clusters, right, its share
    with a 95 % interval (Clopper and Pearson, with sets as trials), nothing (nothing was found), wrong (other
    words alone)."""
    found, rows = detection(family, profiles, (NONE, *DEFENDED)), {}
    clean = found.index.get_level_values("attack") == NONE
    parts = [("clean", found[clean])]
    parts += [(f"{rate:.1%} poisoned", part) for rate, part in found[~clean].groupby("poison_rate")]
    for title, part in [(f"{name}, {side}", half) for name, every in parts for side, half in _sides(every)]:
        right, nothing = int(part.right.sum()), int((part.words == "").sum())
        low, high = proportion_confint(right, len(part), method="beta")
        rows[title] = {
            "sets": len(part), "clusters": part.cluster.nunique(), "right": right, "share": right / len(part),
            "low": low, "high": high, "nothing": nothing,
            "wrong": int((~part.right & (part.words != "")).sum()),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("sets of pairs")


def seen(family: str, attacks: Sequence[str], profiles: Among = None) -> pd.DataFrame:
    """UBT's failures on the seeds that detection's settings were chosen on, and on the others, a row each and
    poison rate: runs, clusters, failed (clusters with a run above 5 %), its 95 % interval (low, high, Clopper
    and Pearson with clusters as trials), mean and worst ASR."""
    runs = recorded(family, None, attacks, [UBT], profiles)
    rows = {}
    parts = [(rate, *half) for rate, every in runs.groupby("poison_rate") for half in _sides(every)]
    for rate, side, own in parts:
        rows[rate, side] = _failures(own)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["poison_rate", "seeds"])


def _failures(own: pd.DataFrame) -> dict[str, float]:
    """Runs, clusters, those that failed with the exact interval of their share, mean and worst ASR."""
    failed, clusters = statistics.failures(own.asr, own.cluster)
    low, high = proportion_confint(failed, clusters, method="beta")
    return {
        "runs": len(own), "clusters": clusters, "failed": failed, "low": low, "high": high,
        "asr": own.asr.mean(), "worst_asr": own.asr.max(),
    }  # fmt: skip


def _sides(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The runs of development seeds, and the unseen ones, where there are any."""
    clean = runs.index.get_level_values("attack") == NONE
    chosen = runs.index.isin(DEVELOPMENT, level="seed")
    chosen |= clean & runs.index.isin(CLEAN_DEVELOPMENT, level="seed")
    both = [("development", runs[chosen]), ("unseen", runs[~chosen])]
    return [(side, part) for side, part in both if len(part)]


def edges(family: str, profiles: Among = EDGES, attacks: Sequence[str] | None = None) -> pd.DataFrame:
    """Where detection ends: one run each of fewer poisoned pairs, other noise, no public model; or of other
    attacks. A row a run (profile, attack, seed): poison_rate, noise, ASR undefended, of the retain-only
    control and of UBT, and what `detection` says; what goes wrong first."""
    found = detection(family, profiles, attacks)
    runs = recorded(family, None, attacks, [NONE, RETAIN, UBT], profiles)
    rates = runs.asr.astype(float).unstack("defense")
    titles = {NONE: "undefended", RETAIN: RETAIN, UBT: UBT}
    noise = [settings.get(name).sets.noise for name in found.index.get_level_values("profile")]
    return found.assign(noise=noise).join(rates.reindex(columns=list(titles)).rename(columns=titles))


def cost(
    family: str,
    defense: str = UBT,
    attacks: Sequence[str] | None = None,
    profiles: Among = None,
) -> pd.DataFrame:
    """What the victim's training and a defense cost, a row a run, the dearest first: seconds of the victim,
    of the defense with its detection and of the latter alone, victim over defense (times), and the part of
    the victim's pairs that the defense pays for, which no machine changes."""
    runs = recorded(family, None, attacks, [defense], profiles)
    curves = runs.curve.map(json.loads)
    found = runs[DESIGN].assign(
        victim=runs.victim_seconds,
        seconds=runs.seconds,
        detection=runs.detection_seconds,
        times=runs.victim_seconds / runs.seconds,
        part=[way[-1]["part"] if way else np.nan for way in curves],
    )
    return found.droplevel("defense").sort_values("times", kind="stable")


def endpoints(family: str, attacks: Sequence[str], profiles: Among = None) -> pd.DataFrame:
    """The primary endpoints of results/ENDPOINTS.md, a row an endpoint and poison rate, in their order: the
    value, its 90 % interval (low, high) where it is a difference, runs, clusters, the target in words, and
    whether the value meets it. Endpoints without the runs that they need are left out."""
    every = recorded(family, None, attacks, None, profiles)
    beside, rows = {}, {}
    for other in every.index.get_level_values("defense").intersection([RETAIN, NONE]).unique():
        metric = "clean_accuracy"
        beside[other] = compared(family, UBT, other, metric, CLEAN_MARGIN, attacks, profiles)
    for rate, runs in every.xs(UBT, level="defense").groupby("poison_rate"):
        failed, clusters = statistics.failures(runs.asr, runs.cluster)
        size = {"runs": len(runs), "clusters": clusters}
        rows["clusters that failed", rate] = {"value": failed, **size, "target": "none", "met": failed == 0}
        for other, title in ((RETAIN, "retain only"), (NONE, "undefended")):
            if other in beside and rate in beside[other].index:
                rows[f"CA less that of {title}", rate] = _against(beside[other].loc[rate], CLEAN_MARGIN)
        if "twin_robust_accuracy" in every:
            twin = every.twin_robust_accuracy.xs(NONE, level="defense").astype(float)
            lost = (runs.robust_accuracy - twin).mean()
            met = {"target": f"at least −{ROBUST_MARGIN:.0%}", "met": lost >= -ROBUST_MARGIN}
            rows["robust accuracy less the twin's", rate] = {"value": lost, **size, **met}
        held = first_holds(paths(family, rate, attacks, [UBT], profiles)).part
        met = {"target": "every run holds", "met": not held.isna().any()}
        rows["largest part of the victim's cost", rate] = {"value": held.max(), **size, **met}
    order = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in rows))}
    rows = {key: rows[key] for key in sorted(rows, key=lambda key: order[key[0]])}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["endpoint", "poison_rate"])
    return found.reindex(columns=["value", "low", "high", "runs", "clusters", "target", "met"])


def _against(row: pd.Series, margin: float) -> dict:
    """One endpoint from a row of `compared`."""
    return {
        "value": row.difference, "low": row.low90, "high": row.high90, "runs": row.runs,
        "clusters": row.clusters, "target": f"at least −{margin:.0%}", "met": row.difference >= -margin,
    }  # fmt: skip


def _difference(
    hits: pd.DataFrame, cluster: pd.Series, one: str, other: str, margin: float
) -> dict[str, float | bool]:
    """One row of `compared`, from what the metric is the mean of; empty where no run has both."""
    paired = _less(hits, cluster, one, other)
    if paired is None:
        return {}
    less, size = paired
    wide, narrow = (_estimate(less, level) for level in (statistics.LEVEL, 0.9))
    return {
        **size, "difference": wide.mean, "low": wide.low, "high": wide.high,
        "low90": narrow.low, "high90": narrow.high,
        "differs": wide.low > 0 or wide.high < 0,
        "equivalent": statistics.equivalent(narrow.low, narrow.high, margin),
    }  # fmt: skip


def _less(
    hits: pd.DataFrame, cluster: pd.Series, one: str, other: str
) -> tuple[np.ndarray, dict[str, int]] | None:
    """One defense less another (clusters, drawings or classes) on the runs that both have, and how many runs
    and clusters these are; None where there are none."""
    first, second = (hits[hits.index.isin([d], level="defense")].droplevel("defense") for d in (one, other))
    shared = first.index.intersection(second.index)
    if shared.empty:
        return None
    cluster = cluster[cluster.index.isin([one], level="defense")].droplevel("defense").reindex(shared)
    a, b = (_by_cluster(side.loc[shared], cluster) for side in (first, second))
    return a - b, {"runs": len(shared), "clusters": cluster.nunique()}


def _row(own: pd.DataFrame, values: dict[str, pd.DataFrame], sure: Sequence[str]) -> dict[str, float]:
    """One defense of `table`, from the rates of its runs and what these are the means of."""
    row: dict[str, float] = {"runs": len(own), "clusters": own.cluster.nunique()}
    for metric in [name for name in ("asr", *SHOWN) if name in values]:
        hits = values[metric].loc[own.index].dropna(how="all").dropna(how="all", axis=1)
        if hits.empty:
            continue
        means, drawings = _by_cluster(hits, own.cluster.loc[hits.index]), hits.shape[1]
        row[metric] = float(np.nanmean(means))
        if metric in sure:
            _, row[f"{metric}_low"], row[f"{metric}_high"] = _estimate(means)
        if metric == "asr":
            row["asr_bound"] = statistics.upper_bound(min(1.0, row[metric]) * drawings, drawings)
            row["worst_asr"] = own.asr.max()
            row["failed"] = statistics.failures(own.asr, own.cluster).failed
    return row | {"seconds": own.seconds.mean() if "seconds" in own else np.nan}


def _estimate(hits: np.ndarray, level: float = statistics.LEVEL) -> statistics.Estimate:
    """The mean with its interval; without one for one cluster or drawing, which says nothing of others."""
    if min(hits.shape) < 2:
        return statistics.Estimate(float(np.nanmean(hits)), np.nan, np.nan)
    return statistics.cluster_bootstrap(hits, level=level)


def _by_cluster(hits: pd.DataFrame, cluster: pd.Series) -> np.ndarray:
    """(clusters, drawings or classes): the mean over the runs of each cluster."""
    return hits.groupby(cluster).mean().to_numpy()


def _runs(
    family: str,
    poison_rate: float | None = None,
    attacks: Sequence[str] | None = None,
    profiles: Among = None,
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
    if isinstance(profiles, Round):
        found, profiles = found[found.seed.isin(profiles.seeds)], profiles.profiles
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
        wanted = [("defense", "in", set(runs.index.get_level_values("defense")))]
        frame = pd.read_parquet(path, filters=wanted) if path.exists() else pd.DataFrame(columns=RUN)
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
