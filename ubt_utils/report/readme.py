"""The tables and the picture of the README, all from the records, by one command."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from ubt_utils.core import paths
from ubt_utils.core.checksum import write_whole
from ubt_utils.core.records import NONE
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.report import benchmark_tables, study_tables, tables

FAMILY, METRICS = "mini", ["poison_rate", "asr", "clean_accuracy"]
SHOWN = (NONE, "ubt-retain", "ubt-described", "merge", "retrain", "ubt")  # those of them that are recorded
HEAD = (
    "poisoned", "model", "ASR %", "worst run", "failed clusters", "CA %", "robust %", "target recall %",
    "seconds", "runs",
)  # fmt: skip
DATA = "Data"  # the chunk of the picture's PNG that holds the checksum of what is drawn
DPI = 160


def sections() -> dict[str, str]:
    """Per mark in the README, what stands between it and its end."""
    return {
        "headline": headline(),
        "own": benchmark_tables.judged_as_markdown(),
        "benchmarks": benchmark_tables.as_markdown(),
    }


def text(readme: str) -> str:
    """The README with every section as the records have it; ValueError for a mark that is not there once."""
    for name, table in sections().items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        if readme.count(first) != 1 or readme.count(last) != 1:
            raise ValueError(f"README.md needs the marks {first} and {last}, once each")
        before, rest = readme.split(first)
        readme = f"{before}{first}\n{table}\n{last}{rest.split(last)[1]}"
    return readme


def headline() -> str:
    """The study in a table, as Markdown: per poison rate what there is to lose (f0 untouched, the clean
    twin), then the models that are defended, mean over attacks and clusters."""
    lines = [
        [f"{rate:.1%}", "undefended" if name == NONE else str(name), *_cells(row)]
        for (rate, name), row in standing().iterrows()
    ]
    return tables.markdown_table(HEAD, lines)


def standing() -> pd.DataFrame:
    """The same as numbers, fractions 0–1: index (poison_rate, model), columns of `study_tables.table`; where
    nothing is hit, asr_high is the exact bound, which says how sure that is."""
    parts = {}
    for rate in _rates():
        defenses = study_tables.known(FAMILY, rate, SHOWN, study_tables.STUDY)
        beside = study_tables.untouched(FAMILY, rate, DEFENDED, study_tables.STUDY)
        found = study_tables.table(FAMILY, rate, DEFENDED, defenses, study_tables.STUDY, sure=("asr",))
        parts[rate] = pd.concat([beside, found])
    table = pd.concat(parts, names=["poison_rate", "model"])
    unhit = (table.asr < 0.0005) & table.asr_high.notna()
    return table.assign(asr_high=table.asr_high.mask(unhit, table[["asr_high", "asr_bound"]].max(axis=1)))


def _rates() -> list[float]:
    """The poison rates at which UBT is recorded, lowest first."""
    runs = study_tables.recorded(FAMILY, None, DEFENDED, [study_tables.UBT], study_tables.STUDY)
    return sorted(runs.poison_rate.unique())


def _cells(row: pd.Series) -> list[str]:
    """The numbers of one row, in the order of HEAD."""
    asr = tables.percent(row.asr)
    if not pd.isna(row.get("asr_low")):
        asr += f" [{tables.percent(row.asr_low)}–{tables.percent(row.asr_high)}]"
    failed = "–" if pd.isna(row.get("failed")) else f"{row.failed:.0f} of {row.clusters:.0f}"
    rates = [tables.percent(row.get(name)) for name in ("clean_accuracy", "robust_accuracy", "target_recall")]
    seconds = "–" if pd.isna(row.get("seconds")) else f"{row.seconds:.0f}"
    return [asr, tables.percent(row.get("worst_asr")), failed, *rates, seconds, f"{row.runs:.0f}"]


def drawn() -> pd.DataFrame:
    """What the picture shows: index (profile, attack, defense, seed), columns poison_rate, asr and
    clean_accuracy, fractions; the clean twins among them."""
    attacks = (*DEFENDED, NONE)
    runs = study_tables.recorded(FAMILY, None, attacks, SHOWN, study_tables.STUDY)[METRICS].astype(float)
    plain = runs.index.isin([NONE], level="defense") | ~runs.index.isin([NONE], level="attack")
    return runs[plain]


def checksum(table: pd.DataFrame) -> str:
    """SHA-256 of a table's index and numbers; what the picture was drawn with (fonts, say) does not count."""
    return hashlib.sha256(table.to_csv(float_format="%.6f").encode()).hexdigest()


def picture() -> Path:
    """Where the picture is kept."""
    return paths.results() / "readme.png"


def draw() -> Path:
    """Draw the picture; the PNG holds the checksum of its data, and neither time nor versions."""
    from ubt_utils.report import plots  # needs the extra [report]; the stages do not

    table = drawn()
    figure = plots.study(table)
    with picture().open("wb") as file:
        figure.savefig(file, dpi=DPI, metadata={"Software": None, DATA: checksum(table)})
    return picture()


def write() -> Path:
    """Write every table of README.md, and its picture, from the records."""
    path = paths.home() / "README.md"
    write_whole(path, text(path.read_text(encoding="utf-8")))
    draw()
    return path
