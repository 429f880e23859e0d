"""What becomes of the defenses, as tables. Loads no model.

Of the first study: who stands where, what each choice is worth, and what attackers who know UBT reach. It is
of another world, with another UBT. Of today's: how every defense got its setting (`tuned`), and on how much
of the evidence it removes the backdoor (`removed`); `study_tables` has all else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace

import pandas as pd

from ubt_utils import profiles
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines import at_test, defenses, ranges
from ubt_utils.core import records
from ubt_utils.core.records import NONE
from ubt_utils.evaluate import choice, statistics
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.profiles.rounds import Round
from ubt_utils.report import cells, detector_tables, evidence, study_tables
from ubt_utils.ubt.defense import Defense
from ubt_utils.ubt.settings import UBT

ORDINARY = "mini"
BROKEN = statistics.BAR  # ASR after a defense from which it counts as broken
AUROC = "bdetclip_auroc"
RETIRED = {  # recorded under a name that is no longer registered
    "ubt-rounds": replace(  # UBT now takes several votes anyway
        defenses.get(UBT), name="ubt-rounds", variant_of=UBT, changed="several votes, for several words"
    ),
    "rvpt": replace(defenses.get("pixel_prompt"), name="rvpt"),  # it never was RVPT
}
THEN = {  # what a defense saw when it was recorded, where it sees more today
    "abl": replace(defenses.get("abl"), sees=("D",)),  # it began after the victim's training
    "eftclip": replace(defenses.get("eftclip"), sees=("D_safe", "D", "class names")),  # f0 was not asked
}
DEVIATIONS = ["defense", "what", "source", "ours", "why"]
ROUNDS = (UBT, "ubt-rounds")  # one vote, and several: what an attacker with several words is met with


def standing_cells(profile: str = ORDINARY, attacks: tuple[str, ...] = DEFENDED) -> pd.DataFrame:
    """The recorded cells of a profile against these attacks, without UBT's variants. ValueError where a cell
    names a defense that was never registered."""
    found = cells.read(cells.STUDY)
    plain = (found.defense == NONE) | _defended_by(found, lambda defense: not defense.variant_of)
    return found[(found.profile == profile) & found.attack.isin(attacks) & plain]


def _defended_by(found: pd.DataFrame, holds: Callable[[Defense], bool]) -> pd.Series:
    """Which cells are of a defense that this holds for; ValueError for one that never was registered."""
    return found.defense.map(lambda name: name != NONE and holds(_of(name))).astype(bool)


def _of(name: str) -> Defense:
    """A defense as it was recorded; ValueError for one that was never registered."""
    return RETIRED.get(name) or THEN.get(name) or defenses.get(name)


def changed(found: pd.DataFrame) -> pd.DataFrame:
    """The cells with `CA change` and `recall change`: against undefended on the same attack and seed."""
    keys = ["profile", "attack", "seed"]
    undefended = found[found.defense == NONE].set_index(keys)
    before = undefended.reindex(pd.MultiIndex.from_frame(found[keys]))
    return found.assign(
        **{
            "CA change": found.clean_accuracy - before.clean_accuracy.to_numpy(),
            "recall change": found.target_recall - before.target_recall.to_numpy(),
        }
    )


def table(found: pd.DataFrame) -> pd.DataFrame:
    """Per defense, over attacks and seeds: mean ASR with its 95 % interval and the worst, mean CA with its
    interval, changes of CA and target recall against undefended on the same runs, median seconds, how many
    runs, and what the defense sees. Fractions 0–1; sorted by ASR, undefended first.
    """
    asr, ca = (statistics.means(found, metric, ["defense"]) for metric in ("asr", "clean_accuracy"))
    groups = changed(found).groupby("defense")
    rows = pd.DataFrame(
        {
            "ASR": asr["mean"],
            "ASR low": asr["low"],
            "ASR high": asr["high"],
            "worst ASR": groups.asr.max(),
            "CA": ca["mean"],
            "CA low": ca["low"],
            "CA high": ca["high"],
            "CA change": groups["CA change"].mean(),
            "recall change": groups["recall change"].mean(),
            "seconds": groups.seconds.median(),
            "runs": asr["runs"],
            "sees": {n: ", ".join(_of(n).sees) if n != NONE else "" for n in groups.groups},
        }
    ).rename_axis("defense")
    return rows.sort_values("ASR").loc[lambda t: [NONE, *t.index.drop(NONE)]]


def grid(found: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over seeds of one metric: a row per defense, in the order of `table`, a column per attack."""
    wide = found.pivot_table(index="defense", columns="attack", values=metric)
    return wide.loc[table(found).index]


def suite(profile: str = ORDINARY) -> pd.DataFrame:
    """UBT against every attack that it was recorded with: kind of label, mean ASR undefended and after UBT,
    the worst run, mean changes of CA and target recall, runs. Fractions 0–1; worst first."""
    every = changed(standing_cells(profile, tuple(TRIGGERS)))
    asr = every[every.defense == NONE].groupby("attack").asr.mean()
    runs = every[every.defense == UBT].groupby("attack")
    found = pd.DataFrame(
        {
            "label": {name: TRIGGERS[name].label for name in runs.groups},
            "ASR undefended": asr.reindex(list(runs.groups)),
            "ASR": runs.asr.mean(),
            "worst ASR": runs.asr.max(),
            "CA change": runs["CA change"].mean(),
            "recall change": runs["recall change"].mean(),
            "runs": runs.size(),
        }
    )
    return found.rename_axis("attack").sort_values("worst ASR", ascending=False, kind="stable")


def ablations() -> pd.DataFrame:
    """Every recorded choice of UBT against UBT as it is, on the same attacks and seeds: what is changed, mean
    and worst ASR, and the mean change of CA with its 95 % interval and Holm's p."""
    choices = {p.name: p.changed for p in profiles.ABLATIONS}
    found = cells.read(cells.STUDY)
    own_list = _defended_by(found, lambda defense: defense.is_ubt and not defense.fed_by)
    found = found[found.attack.isin(DEFENDED) & own_list]
    inside = found[found.profile == ORDINARY]
    outside = found[found.profile.isin(choices) & (found.defense == UBT)]
    both = pd.concat([inside, outside.assign(profile=ORDINARY, defense=outside.profile)])
    choices |= {name: _of(name).changed for name in inside.defense.unique()}
    ca, groups = statistics.paired(both, "clean_accuracy"), both.groupby("defense")
    return pd.DataFrame(
        {
            "choice": {name: choices[name] for name in ca.index},
            "ASR": groups.asr.mean().drop(UBT),
            "worst ASR": groups.asr.max().drop(UBT),
            "CA change": -ca["difference"],
            "low": -ca["high"],
            "high": -ca["low"],
            "p (Holm)": ca["p (Holm)"],
            "runs": ca["pairs"],
        }
    )


def carried_on() -> pd.DataFrame:
    """Per detector: its mean precision@64, and mean and worst ASR and mean CA of the model that was unlearned
    with what it found; UBT's own list among them, all on the runs that every detector has. Raises
    MixedEvidence where lists and models descend from different public models."""
    keys = ["attack", "seed", "detector"]
    found, seen = cells.read(cells.STUDY), detector_tables.read(cells.STUDY)
    listed = _defended_by(found, lambda defense: bool(defense.fed_by) or defense.name == UBT)
    fed = found[(found.profile == ORDINARY) & found.attack.isin(DEFENDED) & listed]
    detectors = fed.defense.map(lambda name: _of(name).fed_by or UBT)
    fed = fed.assign(detector=detectors)[[*keys, "asr", "clean_accuracy", "f0"]]
    lists = seen.loc[seen.profile == ORDINARY, [*keys, "precision_at_64", "f0"]]
    both = fed.merge(lists.rename(columns={"f0": "f0 of the list"}), on=keys)
    both = both[both.groupby(keys[:2]).detector.transform("nunique") == both.detector.nunique()]
    evidence.of_one_model(pd.DataFrame({"f0": pd.concat([both.f0, both["f0 of the list"]])}))
    groups = both.groupby("detector")
    mean = groups[["precision_at_64", "asr", "clean_accuracy"]].mean()
    mean = mean.assign(**{"worst ASR": groups.asr.max(), "runs": groups.size()})
    return mean.sort_values("precision_at_64", ascending=False)


def trials(family: str = cells.STUDY) -> pd.DataFrame:
    """How the defenses got their settings, a row a trial; FileNotFoundError says how to make them."""
    path = records.table_path(family, records.TUNING)
    return evidence.of_one_model(records.read_table(path, "python -m ubt_utils tune"))


def weights(family: str = ORDINARY) -> pd.DataFrame:
    """UBT's path for several weights w of its push, a row a point of it, on one victim; FileNotFoundError
    says how to make them."""
    path = records.table_path(family, records.WEIGHTS)
    return evidence.of_one_model(records.read_table(path, "python -m ubt_utils weights"))


def tuned(family: str = ORDINARY, most: float = math.inf, mends: bool = False) -> pd.DataFrame:
    """What tuning came to for a budget of `most` of the victim's cost, of all settings or of those that mend
    (`choice.within`), a row a defense that has one: those whose chosen setting holds first (ASR at most 5 %
    on every victim), then by its clean accuracy.

    Columns: settings, how many were tried, its source's among them, and hold, how many of these hold on the
    victims that they met; setting, the chosen one in words, whether it holds, its mean and worst ASR and mean
    CA, over how many victims, what of the undefended CA it lost, the part of the victim's cost that it paid,
    and which of its numbers lie at an end of their range; and ASR, worst ASR, CA and victims of the source's
    setting, at the best of its rates, NaN where none is known.
    """
    found = {name: choice.over_victims(part) for name, part in trials(family).groupby("defense")}
    chosen = {name: choice.chosen(over, most, mends) for name, over in found.items()}
    rows = {name: _tuned(name, found[name], setting) for name, setting in chosen.items() if setting}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense")
    table["source's victims"] = table["source's victims"].astype("Int64")
    return table.sort_values(["holds", "CA"], ascending=False, kind="stable")


def _tuned(defense: str, found: pd.DataFrame, name: str) -> dict[str, object]:
    """One row of `tuned`, from the settings of one defense (`choice.over_victims`) and the chosen one."""
    holds = found.worst <= statistics.BAR
    published = [one for one in found.index if ranges.is_published(json.loads(one))]
    best = choice.ranked(found.loc[published])
    source = found.loc[best[0]] if best else pd.Series(dtype=float)
    rates = {"ASR": "asr", "worst ASR": "worst", "CA": "clean_accuracy", "victims": "victims"}
    return {
        "settings": len(found), "hold": int(holds.sum()), "setting": in_words(json.loads(name)),
        "holds": bool(holds[name]), **{title: found.loc[name, column] for title, column in rates.items()},
        "lost": found.loc[name, "lost"], "paid": found.loc[name, "paid"],
        "at an end": ", ".join(ranges.at_an_end(defense, json.loads(name))),
        **{f"source's {title}": source.get(column) for title, column in rates.items()},
    }  # fmt: skip


def in_words(setting: Mapping[str, ranges.Value]) -> str:
    """A setting as one line: lr 0.001, part 0.2, freeze_norm no."""
    said = {name: ("no", "yes")[v] if isinstance(v, bool) else f"{v:g}" for name, v in setting.items()}
    return ", ".join(f"{name} {value}" for name, value in said.items())


def removed(
    family: str = ORDINARY,
    poison_rate: float | None = None,
    attacks: Sequence[str] = DEFENDED,
    which: Sequence[str] | None = None,
    profiles: study_tables.Among = study_tables.STUDY,
) -> pd.DataFrame:
    """On how much of the evidence each defense removes the backdoor, undefended first, then by mean ASR.

    Columns: per attack "k of n", the clusters (a public model and a seed) on which every run ends with an ASR
    of at most 5 %, of those that it met, or "" for none; runs; mean and worst ASR, mean CA and target recall;
    what it costs, as a part of the victim's pairs and in seconds, means over runs, NaN where it is not known;
    and what it sees. which: these defenses; None: all that are no variants and have the usual pairs.
    profiles: of the family; None: all, the edges of detection among them.
    """
    runs = study_tables.recorded(family, poison_rate, attacks, which, profiles)
    ways = study_tables.paths(family, poison_rate, attacks, which, profiles)
    part = ways.groupby(study_tables.RUN).part.last() if len(ways) else pd.Series(dtype=float)
    runs = runs.assign(part=part.reindex(runs.index))
    names = runs.index.get_level_values("defense").unique()
    if which is None:
        apart = {d.name for d in defenses.DEFENSES.values() if d.variant_of or d.unsaid}
        names = [name for name in names if name not in apart]
    rows = {name: _removed(name, runs.xs(name, level="defense"), attacks) for name in names}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("defense").sort_values("ASR")
    return table.loc[lambda t: [*t.index.intersection([NONE]), *t.index.drop(NONE, errors="ignore")]]


def _removed(name: str, own: pd.DataFrame, attacks: Sequence[str]) -> dict[str, object]:
    """One row of `removed`, from the runs of one defense."""
    return {
        **{attack: _clusters_freed(own[own.index.isin([attack], level="attack")]) for attack in attacks},
        "runs": len(own), "ASR": own.asr.mean(), "worst ASR": own.asr.max(), "CA": own.clean_accuracy.mean(),
        "recall": own.target_recall.mean(), "part": own.part.mean(), "seconds": own.seconds.mean(),
        "sees": "" if name == NONE else ", ".join(defenses.get(name).sees),
    }  # fmt: skip


def _clusters_freed(own: pd.DataFrame) -> str:
    """On how many clusters no run is left with its backdoor, and of how many."""
    failed, clusters = statistics.failures(own.asr, own.cluster)
    return f"{clusters - failed} of {clusters}" if clusters else ""


def at_test_time(
    family: str = ORDINARY,
    attacks: Sequence[str] | None = None,
    profiles: study_tables.Among = study_tables.STUDY,
) -> pd.DataFrame:
    """Detection at test time by BDetCLIP, the least sure first: per attack and poison rate the mean and least
    AUROC, the mean part of clean pictures that it calls stamped where it finds 95 % of the stamped ones, runs
    and clusters. Attacks that stamp no picture, and runs from before it was measured, are left out."""
    runs = study_tables.recorded(family, None, attacks, (NONE,), profiles).reset_index()
    if AUROC not in runs:
        return pd.DataFrame()
    over = runs[runs[AUROC].notna()].groupby(["attack", "poison_rate"])
    found = over.agg(
        auroc=(AUROC, "mean"), least=(AUROC, "min"), false_alarms=("bdetclip_fpr_at_95_tpr", "mean"),
        runs=(AUROC, "size"), clusters=("cluster", "nunique"),
    )  # fmt: skip
    return found.sort_values("auroc")


def attackers(attack: str = "badnets", family: str = cells.STUDY) -> pd.DataFrame:
    """Per profile of an attacker who knows UBT, the ordinary one first, means over seeds: poison rate (of
    each trigger), ASR undefended, after UBT and after UBT with several votes, the worst ASR of each, the
    change of CA under UBT, the part of the poison in the pool, the part of D_u that is poisoned; and the
    words that detection named. Where there are several targets, ASR is the mean over them, and the worst
    that of any. Raises FileNotFoundError when nothing is recorded.
    """
    found = cells.read(family)
    found = found[found.attack == attack]
    names = [p.name for p in (profiles.MINI, *profiles.ADAPTIVE) if p.name in set(found.profile)]
    rows = {name: _attacker(profiles.get(name), found[found.profile == name]) for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile")


def _attacker(profile: profiles.Profile, found: pd.DataFrame) -> dict[str, object]:
    by = dict(list(found.groupby("defense")))
    rates = _asr_of_each(profile)
    ubt, undefended, met = by[UBT], by[NONE], [d for d in ROUNDS if d in by]
    return {
        "poison rate": profile.poison_rate,
        "ASR undefended": undefended[rates].mean(axis=None),
        **{f"ASR {d}": by[d][rates].mean(axis=None) for d in met},
        **{f"worst ASR {d}": by[d][rates].max(axis=None) for d in met},
        "CA change": ubt.clean_accuracy.mean() - undefended.clean_accuracy.mean(),
        "poison in the pool": ubt.pool_recall.mean(),
        "D_u poisoned": (ubt.chosen_poisoned / ubt.chosen).mean(),
        "the vote's words": ", ".join(sorted(set(_words(ubt)))),
    }


def _asr_of_each(profile: profiles.Profile) -> list[str]:
    """The columns with the ASR of each of its triggers."""
    return ["asr", *(f"asr_{other}" for other in profile.also)]


def once(of: Round, metric: str = "asr", family: str = ORDINARY) -> pd.DataFrame:
    """One rate of the runs of a round in which every attack was run once, those of highest ASR after UBT
    first: a row an attack of the round's first profile, or an attacker, by the profile's name without what
    all share; a column a defense. Where there are several targets, ASR is the mean over them. NaN: not
    recorded. ValueError where an attack was run twice."""
    runs = study_tables.recorded(family, profiles=of).reset_index()
    attacker = runs.profile != of.profiles[0]
    runs["by"] = attacker.map({True: "attacker", False: "attack"})
    runs["name"] = runs.profile.str.split("-").str[1].where(attacker, runs.attack)
    targets = {name: _asr_of_each(profiles.get(name)) for name in runs.profile.unique()}
    runs["asr"] = [row[targets[row.profile]].astype(float).mean() for _, row in runs.iterrows()]
    rates, asr = (runs.pivot(index=["by", "name"], columns="defense", values=k) for k in (metric, "asr"))
    order = asr.reindex(columns=[UBT])[UBT].sort_values(ascending=False, kind="stable").index
    return rates.loc[order].astype(float)


def _words(ubt: pd.DataFrame) -> list[str]:
    """What detection named in each run: one word in the first study, several in this one."""
    if "anchors" not in ubt or ubt.anchors.isna().all():
        return list(ubt.anchor)
    return [word for told in ubt.anchors for word in json.loads(told)] or ["(none)"]


def deviations() -> pd.DataFrame:
    """In what every rival differs from its source, a row a setting: defense, what, source, ours, why. In the
    order of the registry, then detection at test time; those that are another one but for their pairs differ
    as it does, and are left out."""
    told = {d.name: d.deviations for d in defenses.DEFENSES.values() if not d.copied}
    told["bdetclip"] = at_test.DEVIATIONS
    rows = [(name, *astuple(row)) for name, found in told.items() for row in found]
    return pd.DataFrame(rows, columns=DEVIATIONS)
