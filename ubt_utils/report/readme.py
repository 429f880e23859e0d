"""The tables and the picture of the README, all from the records, by one command."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from ubt_utils.core import paths
from ubt_utils.core.checksum import write_whole
from ubt_utils.core.records import NONE
from ubt_utils.report import benchmark_tables, tables

PROFILE, METRICS = "mini", ["asr", "clean_accuracy"]
DATA = "Data"  # the chunk of the picture's PNG that holds the checksum of what is drawn
DPI = 160


def sections() -> dict[str, str]:
    """Per mark in the README, what stands between it and its end."""
    return {
        "headline": tables.as_markdown(PROFILE),
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


def drawn() -> pd.DataFrame:
    """What the picture shows: index (attack, defense, seed), columns asr and clean_accuracy, fractions; of
    the attacks that have a recorded defense."""
    wide = tables.wide(tables.rows(PROFILE))[METRICS].drop(NONE, level="attack", errors="ignore")
    defended = set(wide.index[wide.index.get_level_values("defense") != NONE].get_level_values("attack"))
    return wide[wide.index.get_level_values("attack").isin(defended)].sort_index()


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
    figure = plots.headline(table)
    with picture().open("wb") as file:
        figure.savefig(file, dpi=DPI, metadata={"Software": None, DATA: checksum(table)})
    return picture()


def write() -> Path:
    """Write every table of README.md, and its picture, from the records."""
    path = paths.home() / "README.md"
    write_whole(path, text(path.read_text(encoding="utf-8")))
    draw()
    return path
