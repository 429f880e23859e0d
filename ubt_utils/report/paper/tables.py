"""The tables of the paper, as LaTeX with booktabs' rules and siunitx's columns: those of the README and of
notebook 05, in percent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from ubt_utils import profiles
from ubt_utils.core.records import NONE
from ubt_utils.evaluate import choice
from ubt_utils.profiles.base import DEFENDED, MET
from ubt_utils.profiles.rounds import FIFTH
from ubt_utils.report import benchmark_tables, defense_tables, study_tables
from ubt_utils.report.paper.figures import FAMILY, FEW, STUDY, USUAL
from ubt_utils.report.plots.style import ATTACK_NAMES, TITLES

NOT = "–"  # what is not measured
LOST = 12  # rows of the table of losses


def headline(standing: pd.DataFrame) -> pd.DataFrame:
    """The README's headline, with the interval in columns of its own; standing: `readme.standing`."""
    found = standing.reset_index()
    shown = pd.DataFrame({
        "poisoned (%)": 100 * found.poison_rate,
        "model": found.model.replace(TITLES),
        "ASR": 100 * found.asr, "low": 100 * found.asr_low, "high": 100 * found.asr_high,
        "worst": 100 * found.worst_asr,
        "failed": [_of(row.failed, row.clusters) for row in found.itertuples()],
        "CA": 100 * found.clean_accuracy, "robust": 100 * found.robust_accuracy,
        "recall": 100 * found.target_recall, "runs": found.runs.astype(int),
    })  # fmt: skip
    return shown.set_index(["poisoned (%)", "model"])


def _of(some: float, every: float) -> str:
    return NOT if pd.isna(some) else f"{some:.0f} of {every:.0f}"


def ladder() -> pd.DataFrame:
    """Each part of the method, on the runs that all rungs have."""
    found = study_tables.ladder(FAMILY, FEW, DEFENDED, STUDY)
    shown = {
        "what": found.what, "ASR": 100 * found.asr, "worst": 100 * found.worst_asr,
        "failed": [_of(row.failed, row.clusters) for row in found.itertuples()],
        "CA": 100 * found.clean_accuracy, "recall": 100 * found.target_recall, "runs": found.runs,
    }  # fmt: skip
    return pd.DataFrame(shown).set_index("what")


def answers() -> pd.DataFrame:
    """How often detection is right."""
    found = study_tables.nothing_found(FAMILY, STUDY)
    shown = {
        "sets": found.sets, "clusters": found.clusters, "right": found.right, "low": 100 * found.low,
        "high": 100 * found.high,
    }  # fmt: skip
    return pd.DataFrame(shown)


def failures() -> pd.DataFrame:
    """UBT's failures on development seeds and on unseen ones."""
    found = study_tables.seen(FAMILY, DEFENDED, STUDY).reset_index()
    shown = {
        "poisoned (%)": 100 * found.poison_rate, "seeds": found.seeds, "runs": found.runs,
        "clusters": found.clusters, "failed": found.failed, "low": 100 * found.low, "high": 100 * found.high,
        "ASR": 100 * found.asr, "worst": 100 * found.worst_asr,
    }  # fmt: skip
    return pd.DataFrame(shown).set_index(["poisoned (%)", "seeds"])


def losses() -> pd.DataFrame:
    """Where UBT loses most, against whom."""
    found = study_tables.losses(FAMILY, DEFENDED, None, STUDY)
    found = found[found.behind > 0].head(LOST)
    shown = {
        "poisoned (%)": 100 * found.poison_rate, "rate": found.metric.str.replace("_", " "),
        "against": found.defense, "UBT": 100 * found.ubt, "other": 100 * found.other,
        "behind": 100 * found.behind, "runs": found.runs, "worse on": found["runs behind"],
    }  # fmt: skip
    return pd.DataFrame(shown).set_index(["poisoned (%)", "rate", "against"])


def removed() -> pd.DataFrame:
    """On how many clusters each defense removes the backdoor, by attack, and what it costs."""
    found = defense_tables.removed(FAMILY).rename(index=TITLES)
    shown = {ATTACK_NAMES[name]: found[name].replace("", NOT) for name in DEFENDED}
    shown |= {
        "ASR": 100 * found.ASR, "worst": 100 * found["worst ASR"], "CA": 100 * found.CA,
        "cost (%)": 100 * found.part, "runs": found.runs,
    }  # fmt: skip
    return pd.DataFrame(shown)


def rivals() -> pd.DataFrame:
    """The same of every tuned defense, at a fifth of the victim's cost, on seeds kept for that."""
    found = defense_tables.removed(FAMILY, USUAL, MET, None, FIFTH).rename(index=TITLES)
    shown = {ATTACK_NAMES[name]: found[name].replace("", NOT) for name in MET}
    shown |= {"ASR": 100 * found.ASR, "worst": 100 * found["worst ASR"], "CA": 100 * found.CA}
    return pd.DataFrame(shown | {"recall": 100 * found.recall})


def tuned() -> pd.DataFrame:
    """What tuning came to, within a fifth of the victim's cost, among settings that mend; empty where no
    setting does."""
    found = defense_tables.tuned(FAMILY, choice.QUICK, mends=True)
    shown = {
        "settings": found.settings, "hold": found.hold, "ASR": 100 * found.ASR,
        "worst": 100 * found["worst ASR"], "CA": 100 * found.CA, "lost": 100 * found.lost,
        "paid (%)": 100 * found.paid, "victims": found.victims,
    }  # fmt: skip
    return pd.DataFrame(shown)


def attackers() -> pd.DataFrame:
    """What attackers who know UBT reach with BadNets."""
    found = defense_tables.attackers(family=FAMILY).drop(profiles.MINI.name, errors="ignore")
    shown = {
        "poisoned (%)": 100 * found["poison rate"], "undefended": 100 * found["ASR undefended"],
        "after UBT": 100 * found["ASR ubt"], "pool": 100 * found["poison in the pool"],
        "found": found["the vote's words"],
    }  # fmt: skip
    return pd.DataFrame(shown).rename(index=lambda name: name.removeprefix(f"{FAMILY}-"))


def judged() -> pd.DataFrame:
    """What `scan` and `defend` made of models given as files."""
    found = benchmark_tables.judged().rename(index={NONE: "no attack"})
    shown = {
        "sets": found.sets, "right": found.right, "undefended": 100 * found.undefended,
        "defended": 100 * found.defended, "worst": 100 * found.worst,
    }  # fmt: skip
    return pd.DataFrame(shown)


TABLES: Mapping[str, Callable[[], pd.DataFrame]] = {  # beside the headline
    "removed": removed,
    "rivals": rivals,
    "failures": failures,
    "answers": answers,
    "ladder": ladder,
    "losses": losses,
    "attackers": attackers,
    "tuned": tuned,
    "judged": judged,
}


def latex(table: pd.DataFrame) -> str:
    """A table as a tabular of booktabs and siunitx: floats to one digit, text left, no row index names."""
    flat = table.reset_index(names=[name or "" for name in table.index.names])
    digits = {name: _digits(name) for name in flat.select_dtypes("float")}
    shown = {name: f"{{:.{n}f}}".format for name, n in digits.items()}
    style = flat.style.hide(axis="index").format(shown, na_rep=f"{{{NOT}}}", escape="latex")
    style = style.format_index(escape="latex", axis=1)
    columns = "".join(_column(flat[name], digits.get(name, 0)) for name in flat)
    return style.to_latex(hrules=True, siunitx=True, column_format=columns).replace(NOT, "--")


def _digits(name: str) -> int:
    return 2 if name == "poisoned (%)" else 1


def _column(values: pd.Series, digits: int) -> str:
    """The column's type: S with as many places as its widest number, l for text."""
    if not pd.api.types.is_numeric_dtype(values):
        return "l"
    known = values.dropna()
    whole = len(f"{abs(known).max():.0f}") if len(known) else 1
    sign = "-" if (known < 0).any() else ""
    return f"S[table-format={sign}{whole}.{digits}]" if digits else f"S[table-format={sign}{whole}]"
