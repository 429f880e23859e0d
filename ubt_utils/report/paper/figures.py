"""The figures of the paper: each a name, what is plotted (its data, from the records) and how."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from ubt_utils import profiles
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines import ranges
from ubt_utils.core import records
from ubt_utils.core.records import NONE
from ubt_utils.evaluate import choice
from ubt_utils.profiles.base import DEFENDED, MET
from ubt_utils.profiles.rounds import FIFTH
from ubt_utils.report import benchmark_tables, defense_tables, plots, readme, study_tables
from ubt_utils.report.paper import arrays, triggers
from ubt_utils.report.plots.style import ATTACK_NAMES
from ubt_utils.ubt.settings import UBT

FAMILY, STUDY = readme.FAMILY, study_tables.STUDY
COLUMN, PAGE = 3.25, 6.75  # inches: a column and a page of the usual two-column styles
MATRIX, TUNING, GROWTH = f"{FAMILY}/{records.MATRIX}", f"{FAMILY}/{records.TUNING}", "benchmarks/growth.json"
FEW, USUAL = profiles.RARE[0].poison_rate, profiles.MINI.poison_rate
WAYS = (
    "ubt", "ubt-retain", "ubt-described", "carry_on", "merge", "ubt-anew", "retrain", "retrain_ubt",
)  # fmt: skip
STEPS = (  # stage, what it makes, who runs it
    ("pretrain", "public model f0", "publisher"),
    ("attack", "poisoned D, model fb", "attacker"),
    ("suspect", "pool, and the word that suffers", "defender"),
    ("overfit", "rank of the pool", "defender"),
    ("select", "unlearning set, tokens", "defender"),
    ("unlearn", "model fu", "defender"),
    ("evaluate", "ASR, CA, recall", "all"),
)
NOTED = "badnets"  # the attack of the notebooks
CHANGED = {"target_recall": "target recall", "clean_accuracy": "clean accuracy"}


@dataclass(frozen=True)
class Entry:
    """One figure. data: what is plotted, and stands in its CSV; empty where nothing is recorded yet. draw:
    from that to the figure. width: inches. records: files under results/ that it comes from. runs: the rows
    of the matrix or the trials that are drawn, with their commits; None where they have none."""

    data: Callable[[], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    width: float
    records: tuple[str, ...] = ()
    runs: Callable[[], pd.DataFrame] | None = None


def _runs(
    attacks: Sequence[str] | None = DEFENDED,
    defenses: Sequence[str] | None = None,
    rate: float | None = None,
    among: study_tables.Among = STUDY,
) -> Callable[[], pd.DataFrame]:
    return lambda: study_tables.recorded(FAMILY, rate, attacks, defenses, among)


def _steps() -> pd.DataFrame:
    return pd.DataFrame(STEPS, columns=["stage", "makes", "who"])


def _chain(steps: pd.DataFrame) -> Figure:
    return plots.chain_diagram(list(steps.itertuples(index=False, name=None)))


def _study(table: pd.DataFrame) -> Figure:
    return plots.study(table.set_index(list(records.KEYS)))


def _anytime() -> pd.DataFrame:
    ways = study_tables.paths(FAMILY, None, DEFENDED, WAYS, STUDY)
    return ways[[*records.KEYS, "poison_rate", "step", "part", "asr", "clean_accuracy"]]


def _ladder() -> pd.DataFrame:
    steps = study_tables.ladder(FAMILY, FEW, DEFENDED, STUDY)
    runs = study_tables.rungs(FAMILY, FEW, DEFENDED, STUDY)[["asr", "clean_accuracy"]].astype(float)
    return runs.reset_index().assign(what=lambda table: table.defense.map(steps.what))


def _climbed(table: pd.DataFrame) -> Figure:
    names = table.drop_duplicates("defense").set_index("defense").what.to_dict()
    return plots.rungs(table.set_index(list(records.KEYS)), study_tables.RUNGS, names)


def _margins() -> pd.DataFrame:
    found = study_tables.detection(FAMILY, STUDY, (*DEFENDED, NONE))
    return found[["poison_rate", "cluster", "lost", "honest", "right"]].sort_index().reset_index()


def _detected(table: pd.DataFrame) -> Figure:
    return plots.margins(table.set_index(["profile", "attack", "seed"]), profiles.MINI.select)


def _edges() -> pd.DataFrame:
    """Every single run beyond the study: its group, its name, ASR undefended and after UBT."""
    adaptive, others = [one.name for one in profiles.ADAPTIVE], sorted({*TRIGGERS} - {*DEFENDED})
    groups = {
        "attackers who know UBT": study_tables.edges(FAMILY, adaptive),
        "other attacks": study_tables.edges(FAMILY, STUDY, others),
        "where detection ends": study_tables.edges(FAMILY),
    }
    parts = [
        part.assign(group=group, run=_short(part))[["group", "run", "undefended", UBT]]
        for group, part in groups.items()
        if len(part)
    ]
    return pd.concat(parts).reset_index().drop(columns=["level_0", "index"], errors="ignore")


def _short(part: pd.DataFrame) -> list[str]:
    """Names of runs that say what differs: the profile without its family, the attack, the seed."""
    return [
        f"{profile.removeprefix(f'{FAMILY}-')}, {ATTACK_NAMES.get(attack, attack)}, {seed}"
        for profile, attack, seed in part.index
    ]


def _ended(table: pd.DataFrame) -> Figure:
    return plots.before_after({str(g): part.set_index("run") for g, part in table.groupby("group")})


def _cost_of_mending() -> pd.DataFrame:
    """UBT less undefended on every run, and what to call its row."""
    runs = study_tables.recorded(FAMILY, None, DEFENDED, [NONE, UBT], STUDY)
    rates = runs[list(CHANGED)].astype(float)
    less = rates.xs(UBT, level="defense") - rates.xs(NONE, level="defense")
    rate = runs.poison_rate.xs(UBT, level="defense")
    rows = [f"{ATTACK_NAMES[a]}, {rate[key]:.1%}" for key in less.index for a in [key[1]]]
    return less.assign(row=rows).reset_index().sort_values(["row", "profile", "seed"], ignore_index=True)


def _mended(table: pd.DataFrame) -> Figure:
    return plots.changes(table.set_index("row"), CHANGED)


def _trials() -> pd.DataFrame:
    kept = ["defense", "setting", "attack", "seed", "asr", "clean_accuracy", "undefended", "paid"]
    return defense_tables.trials(FAMILY)[kept]


def _cloud(trials: pd.DataFrame) -> Figure:
    return plots.cloud(trials, columns=4, most=choice.QUICK, mends=True)


def _forest() -> pd.DataFrame:
    """The tuned rivals that share two clusters with UBT, so that their differences have intervals."""
    wanted = [name for name in ranges.tuned() if name != UBT]
    if study_tables.recorded(FAMILY, USUAL, MET, wanted, FIFTH).empty:
        return pd.DataFrame()
    found = study_tables.rivals(FAMILY, USUAL, MET, wanted, FIFTH)
    return found[found.clusters > 1].reset_index()


def _compared(table: pd.DataFrame) -> Figure:
    return plots.forest(table.set_index("defense"))


def _vote() -> pd.DataFrame:
    """The run of notebook 03, whose words were asked."""
    runs = study_tables.recorded(FAMILY, USUAL, [NOTED], [UBT], [profiles.MINI.name])
    return runs[runs.index.isin([0], level="seed")]


def _asked() -> pd.DataFrame:
    """Every word that was asked, and whether it was believed."""
    rows = []
    for run in _vote().to_dict("records"):
        believed = {one["word"] for one in json.loads(run["found"])}
        rows += [{**one, "believed": one["word"] in believed} for one in json.loads(run["asked"])]
    return pd.DataFrame(rows)


def _agreed(table: pd.DataFrame) -> Figure:
    believed = set(table.word[table.believed])
    return plots.agreement(table.to_dict("records"), profiles.MINI.select, believed)


def _removed(data: Callable[[], pd.DataFrame]) -> Callable[[], pd.DataFrame]:
    """Data with a plain index, as a CSV has it."""
    return lambda: data().reset_index()


FIGURES: Mapping[str, Entry] = {
    "chain": Entry(_steps, _chain, PAGE),
    "triggers": Entry(triggers.visibility, triggers.stamped, PAGE, (MATRIX,), triggers.runs),
    "similarity": Entry(arrays.recorded("similarity"), arrays.similarity, PAGE, (arrays.RECORD,)),
    "drops": Entry(arrays.recorded("drops"), arrays.drops, PAGE, (arrays.RECORD,)),
    "agreement": Entry(_asked, _agreed, PAGE, (MATRIX,), _vote),
    "sufferers": Entry(arrays.recorded("sufferers"), arrays.sufferers, PAGE, (arrays.RECORD,)),
    "tokens": Entry(arrays.loudest, arrays.tokens, COLUMN, (arrays.RECORD,)),
    "study": Entry(_removed(readme.drawn), _study, PAGE, (MATRIX,), _runs((*DEFENDED, NONE), readme.SHOWN)),
    "anytime": Entry(_anytime, plots.budget, PAGE, (MATRIX,), _runs(defenses=WAYS)),
    "ladder": Entry(_ladder, _climbed, PAGE, (MATRIX,), _runs(defenses=study_tables.RUNGS, rate=FEW)),
    "margins": Entry(_margins, _detected, PAGE, (MATRIX,), _runs((*DEFENDED, NONE), [UBT])),
    "edges": Entry(_edges, _ended, COLUMN, (MATRIX,), _runs(None, [NONE, UBT], among=None)),
    "losses": Entry(_cost_of_mending, _mended, PAGE, (MATRIX,), _runs(defenses=[NONE, UBT])),
    "cloud": Entry(_trials, _cloud, PAGE, (TUNING,), lambda: defense_tables.trials(FAMILY)),
    "forest": Entry(_forest, _compared, PAGE, (MATRIX,), _runs(MET, ranges.tuned(), USUAL, FIFTH)),
    "growth": Entry(benchmark_tables.read, plots.growth, PAGE, (GROWTH,)),
}
