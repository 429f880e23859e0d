"""What the matrix says, as tables: who stands where, where UBT loses, what each choice is worth."""

from __future__ import annotations

import pandas as pd

from ubt_utils import profiles
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines import defenses
from ubt_utils.evaluate import statistics
from ubt_utils.report import cells, detector_tables, tables
from ubt_utils.report.profile_tables import DEFENDED
from ubt_utils.stages import NONE

ORDINARY = "mini"
KEEPS = 0.05  # a baseline that loses more CA than this against undefended is not set beside UBT
CLAIMED = {"asr": -0.19, "clean_accuracy": 0.0257}  # UBT minus the best earlier defense: 2409.19526, abstract
# Percent, ViT-B/32 on ImageNet, as RVPT's authors report them: arXiv 2412.20392.
PUBLISHED = {
    ("badnets", "none"): (82.7, 63.0),
    ("badnets", "cleanclip"): (23.8, 57.9),
    ("badnets", "rvpt"): (0.05, 62.8),
    ("blended", "none"): (98.5, 62.6),
    ("blended", "cleanclip"): (0.3, 57.7),
    ("blended", "rvpt"): (0.02, 62.4),
}
POINTS = ("asr", "clean_accuracy", "target_recall")
FED = "ubt-from-"


def standing_cells(profile: str = ORDINARY, attacks: tuple[str, ...] = DEFENDED) -> pd.DataFrame:
    """The recorded cells of a profile against these attacks, without UBT's variants."""
    found = cells.read(cells.STUDY)
    plain = found.defense.map(lambda name: "-" not in name)
    return found[(found.profile == profile) & found.attack.isin(attacks) & plain]


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
            "sees": {n: ", ".join(defenses.get(n).sees) if n != NONE else "" for n in groups.groups},
        }
    ).rename_axis("defense")
    return rows.sort_values("ASR").loc[lambda t: [NONE, *t.index.drop(NONE)]]


def grid(found: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over seeds of one metric: a row per defense, in the order of `table`, a column per attack."""
    wide = found.pivot_table(index="defense", columns="attack", values=metric)
    return wide.loc[table(found).index]


def rival(found: pd.DataFrame, anew: bool = True) -> str:
    """The baseline to beat: the lowest mean ASR among those that lose at most 5 points of CA; where not
    `anew`, among those alone that mend the backdoored model."""
    standing = table(found)
    others = [n for n in standing.index if n not in (NONE, "ubt") and (anew or not defenses.get(n).anew)]
    keeps = standing.loc[others][lambda t: t["CA change"] >= -KEEPS]
    if keeps.empty:
        raise ValueError("no baseline keeps its clean accuracy within 5 points of the undefended model")
    return str(keeps.ASR.idxmin())


def losses(found: pd.DataFrame) -> pd.DataFrame:
    """Where another defense does better than UBT, mean over the seeds that both have, largest first: attack,
    metric, defense, both values and by how much."""
    keys = ["profile", "attack", "seed"]
    ubt_of = found[found.defense == "ubt"].set_index(keys)[list(POINTS)]
    others = (
        found[~found.defense.isin((NONE, "ubt"))]
        .join(ubt_of, on=keys, rsuffix=" ubt")
        .dropna(subset="asr ubt")
    )
    rows = []
    for (attack, defense), some in others.groupby(["attack", "defense"]):
        mean = some.mean(numeric_only=True)
        other, ubt = mean[list(POINTS)], mean[[f"{m} ubt" for m in POINTS]].set_axis(POINTS)
        for metric in POINTS:
            behind = (ubt[metric] - other[metric]) * (1 if metric == "asr" else -1)
            if behind > 0:
                told = {"attack": attack, "metric": metric, "defense": defense}
                rows.append({**told, "ubt": ubt[metric], "the other": other[metric], "behind by": behind})
    columns = ["attack", "metric", "defense", "ubt", "the other", "behind by"]
    return pd.DataFrame(rows, columns=columns).sort_values("behind by", ascending=False, ignore_index=True)


def claims(found: pd.DataFrame) -> pd.DataFrame:
    """The paper's two numbers beside ours: UBT minus the rival, and minus the best that mends the backdoored
    model, with 95 % intervals and Holm's p over all defenses. Index (against, metric)."""
    defended, rows = found[found.defense != NONE], {}
    for metric, claimed in CLAIMED.items():
        measured = statistics.paired(defended, metric)
        for other in (rival(found), rival(found, anew=False)):
            rows[other, metric] = {"claimed": claimed, **measured.loc[other]}
    told = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["against", "metric"])
    return told.sort_index(level="against", sort_remaining=False, kind="stable")


def published(found: pd.DataFrame) -> pd.DataFrame:
    """What RVPT's authors report beside what we measure, in percent: index (attack, defense)."""
    mean = 100 * found.groupby(["attack", "defense"])[["asr", "clean_accuracy"]].mean()
    rows = {
        key: {
            "ASR published": asr,
            "ASR measured": mean.asr.get(key),
            "CA published": ca,
            "CA measured": mean.clean_accuracy.get(key),
        }
        for key, (asr, ca) in PUBLISHED.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["attack", "defense"])


def as_markdown(found: pd.DataFrame) -> str:
    """The standing as Markdown, for the README."""

    def percent(row: pd.Series, name: str) -> str:
        low, high = max(0.0, row[f"{name} low"]), min(1.0, row[f"{name} high"])
        return f"{100 * row[name]:.1f} ({100 * low:.1f}–{100 * high:.1f})"

    head = ["defense", "sees", "runs", "ASR %", "worst ASR %", "CA %", "target recall, points", "seconds"]
    rows = [
        [
            f"`{name}`" if name != NONE else "undefended",
            row.sees,
            f"{row.runs}",
            percent(row, "ASR"),
            f"{100 * row['worst ASR']:.1f}",
            percent(row, "CA"),
            f"{100 * row['recall change']:+.1f}" if name != NONE else "–",
            f"{row.seconds:.0f}" if name != NONE else "–",
        ]
        for name, row in table(found).iterrows()
    ]
    return tables.markdown_table(head, rows)


def suite(profile: str = ORDINARY) -> pd.DataFrame:
    """UBT against every attack that it was recorded with: kind of label, mean ASR undefended and after UBT,
    the worst run, mean changes of CA and target recall, runs. Fractions 0–1; worst first."""
    every = changed(standing_cells(profile, tuple(TRIGGERS)))
    asr = every[every.defense == NONE].groupby("attack").asr.mean()
    runs = every[every.defense == "ubt"].groupby("attack")
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


def price(profile: str = ORDINARY) -> pd.DataFrame:
    """What a defense costs where there is no backdoor: its change of CA and of target recall on the clean
    twin, mean over seeds, and how many."""
    twin = changed(standing_cells(profile, (NONE,))).groupby("defense")
    found = twin[["CA change", "recall change"]].mean().assign(runs=twin.size())
    return found.drop(NONE).sort_values("CA change")


def ablations() -> pd.DataFrame:
    """Every recorded choice of UBT against UBT as it is, on the same attacks and seeds: what is changed, mean
    and worst ASR, and the mean change of CA with its 95 % interval and Holm's p."""
    found = cells.read(cells.STUDY)
    found = found[found.attack.isin(DEFENDED) & ~found.defense.str.startswith(FED)]
    changed = {p.name: p.about.removeprefix("mini with ") for p in profiles.ABLATIONS}
    inside = found[(found.profile == ORDINARY) & found.defense.str.startswith("ubt")]
    outside = found[found.profile.isin(changed) & (found.defense == "ubt")]
    both = pd.concat([inside, outside.assign(profile=ORDINARY, defense=outside.profile)])
    told = changed | {n: d.source.removeprefix("[ours] UBT, but ") for n, d in defenses.DEFENSES.items()}
    ca, groups = statistics.paired(both, "clean_accuracy"), both.groupby("defense")
    return pd.DataFrame(
        {
            "choice": {n: told[n] for n in ca.index},
            "ASR": groups.asr.mean().drop("ubt"),
            "worst ASR": groups.asr.max().drop("ubt"),
            "CA change": -ca["difference"],
            "low": -ca["high"],
            "high": -ca["low"],
            "p (Holm)": ca["p (Holm)"],
            "runs": ca["pairs"],
        }
    )


def carried_on() -> pd.DataFrame:
    """Per detector: its mean precision@64, and mean and worst ASR and mean CA of the model that was unlearned
    with what it found; UBT's own list among them, all on the runs that every detector has."""
    keys, found, seen = ["attack", "seed", "detector"], cells.read(cells.STUDY), detector_tables.read()
    fed = found[(found.profile == ORDINARY) & found.attack.isin(DEFENDED)]
    fed = fed[fed.defense.str.startswith(FED) | (fed.defense == "ubt")]
    fed = fed.assign(detector=fed.defense.str.removeprefix(FED))[[*keys, "asr", "clean_accuracy"]]
    both = fed.merge(seen.loc[seen.profile == ORDINARY, [*keys, "precision_at_64"]], on=keys)
    both = both[both.groupby(keys[:2]).detector.transform("nunique") == both.detector.nunique()]
    groups = both.groupby("detector")
    mean = groups[["precision_at_64", "asr", "clean_accuracy"]].mean()
    told = mean.assign(**{"worst ASR": groups.asr.max(), "runs": groups.size()})
    return told.sort_values("precision_at_64", ascending=False)
