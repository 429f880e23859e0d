"""The numbers of the paper's text, as LaTeX macros: those of the README's headline, and of detection."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from ubt_utils.core.records import NONE
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.report import study_tables, tables
from ubt_utils.report.paper.figures import FAMILY, FEW, STUDY, USUAL
from ubt_utils.ubt.settings import UBT

RATES = {FEW: "Rare", USUAL: ""}  # poison rate → the end of a macro's name
MODELS = {study_tables.F0: "Public", study_tables.TWIN: "Twin", NONE: "Undefended"}
CELLS = {  # macro → column, fractions
    "asr": "asr", "asrLow": "asr_low", "asrHigh": "asr_high", "worst": "worst_asr", "ca": "clean_accuracy",
    "robust": "robust_accuracy", "recall": "target_recall",
}  # fmt: skip
COUNTS = {"failed": "failed", "clusters": "clusters", "runs": "runs", "seconds": "seconds"}


def numbers(standing: pd.DataFrame) -> dict[str, str]:
    """Every macro's name and what it stands for; a dash where nothing was measured. standing:
    `readme.standing`."""
    found: dict[str, str] = {}
    for (rate, model), row in standing.iterrows():
        end = camel(model) + suffix(rate)
        found |= {f"{name}{end}": tables.percent(row.get(column)) for name, column in CELLS.items()}
        found |= {f"{name}{end}": _count(row.get(column)) for name, column in COUNTS.items()}
    return found | _detected() | _whole()


def camel(model: str) -> str:
    """A model's name in a macro: ubt-retain → UbtRetain. ValueError where it has other signs than letters."""
    name = MODELS.get(model) or "".join(word.capitalize() for word in re.split("[-_ ]", model))
    if not (name.isascii() and name.isalpha()):
        raise ValueError(f"a macro's name is of letters alone, and {model!r} has others: name it in MODELS")
    return name


def suffix(rate: float) -> str:
    """The end of a macro's name for a poison rate; ValueError for one that has none."""
    for known, end in RATES.items():
        if abs(rate - known) < 1e-9:
            return end
    raise ValueError(f"no macro ends for a poison rate of {rate}: name one in RATES")


def _count(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.0f}"


def _detected() -> dict[str, str]:
    """Clean sets, and clusters that nothing was chosen on."""
    found = study_tables.nothing_found(FAMILY, STUDY)
    clean = found[found.index.str.startswith("clean")]
    unseen = study_tables.seen(FAMILY, DEFENDED, STUDY).xs("unseen", level="seeds")
    sums = unseen.sum()
    return {
        "cleanSets": _count(clean.sets.sum()), "cleanRight": _count(clean.right.sum()),
        "unseenClusters": _count(sums.clusters), "unseenFailed": _count(sums.failed),
        "unseenHigh": f"{100 * unseen.high.max():.0f}",
    }  # fmt: skip


def _whole() -> dict[str, str]:
    """Over both poison rates: UBT's runs, its worst, its cost."""
    cost = study_tables.cost(FAMILY, UBT, DEFENDED, STUDY)
    runs = study_tables.recorded(FAMILY, None, DEFENDED, [UBT], STUDY)
    return {
        "runsAll": _count(len(runs)), "worstAll": tables.percent(runs.asr.max()),
        "partUbt": tables.percent(cost.part.max()), "rateRare": f"{100 * FEW:g}",
        "rate": f"{100 * USUAL:g}",
    }  # fmt: skip


def latex(found: Mapping[str, str]) -> str:
    """The macros as a file to \\input."""
    lines = [f"\\newcommand{{\\{name}}}{{{value.replace('–', '--')}}}" for name, value in found.items()]
    return "\n".join(["% made by `python -m ubt_utils paper`: numbers of the records", *sorted(lines), ""])
