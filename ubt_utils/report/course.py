"""How long the course takes: reading by its words, lines, figures and tables, exercises by their minutes, the
machine as measured.

How fast one reads is our estimate: what a slow first reading took was more than its prose alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
import pandas as pd

from ubt_utils.core import records
from ubt_utils.report.exercises import pages

COURSE = ("00_start_here", "01_attack_injection", "02_overfit_detection", "03_suspicious_selection",
          "04_token_unlearning")  # fmt: skip
WORDS = 150  # of prose a minute
LINES = 12  # of code a minute
SHOWN = 1  # figures or tables a minute
SEEN = ("image/png", "text/html", "application/vnd.jupyter.widget-view+json")  # figure, table, slider
TOLD = re.compile(r"reading \d+ minutes, exercises \d+ minutes(?: \(bonus: \d+ more\))?")


def words(path: Path) -> tuple[int, int]:
    """Words of prose and of code in a notebook: what holds a letter or a digit. Exercises, tables of
    contents, addresses of links and what the head says about its time are not counted."""
    cells = _cells(path)
    prose = [re.sub(r"\]\([^)]*\)", "]", c.source) for c in cells if c.cell_type == "markdown"]
    prose[0] = TOLD.sub("", prose[0].split("**Contents**")[0])
    return _count(prose), _count(c.source for c in cells if c.cell_type == "code")


def _cells(path: Path) -> list[nbformat.NotebookNode]:
    """All cells but those of exercises."""
    return [c for c in nbformat.read(path, as_version=4).cells if not c.id.startswith("ex-")]


def _count(texts: Iterable[str]) -> int:
    return sum(bool(re.search(r"\w", word)) for text in texts for word in text.split())


def lines(path: Path) -> int:
    """Lines of code that there are to read: neither empty nor an import."""
    code = [line for c in _cells(path) if c.cell_type == "code" for line in c.source.splitlines()]
    return sum(bool(line.strip()) and not line.startswith(("import ", "from ")) for line in code)


def shown(path: Path) -> int:
    """Figures, tables and sliders in the outputs of a notebook, as committed."""
    outputs = [one for c in _cells(path) for one in c.get("outputs", ())]
    return sum(any(kind in one.get("data", {}) for kind in SEEN) for one in outputs)


def reading(path: Path) -> int:
    """Minutes that a notebook takes to read: its prose, its code, its figures and tables."""
    return math.ceil(words(path)[0] / WORDS + beside(path))


def beside(path: Path) -> float:
    """Minutes that a reader spends on code, figures and tables."""
    return lines(path) / LINES + shown(path) / SHOWN


def practice(notebook: str, bonus: bool = False) -> int:
    """Minutes that the exercises of a notebook ask for, those marked as a bonus left out; or these alone."""
    asked = [one for one in pages.pages() if notebook.startswith(one.notebook) and one.task]
    return sum(one.minutes for one in asked if one.hard.startswith(pages.BONUS) == bonus)


def told(path: Path) -> str:
    """What the head of a notebook says about its time."""
    more = practice(path.stem, bonus=True)
    beyond = f" (bonus: {more} more)" if more else ""
    return f"reading {reading(path)} minutes, exercises {practice(path.stem)} minutes{beyond}"


def write() -> None:
    """Write its time into the head of each notebook of the course, as it is now."""
    for stem in COURSE:
        path = pages.FOLDER / f"{stem}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        head = notebook.cells[0]
        if (renewed := TOLD.sub(told(path), head.source)) != head.source:
            head.source = renewed
            nbformat.write(notebook, path)


def table() -> pd.DataFrame:
    """Minutes a notebook of the course: reading, and how much of it goes to code, figures and tables;
    exercises, and those that are a bonus; and what the machine needs, as CPU minutes of one core, where
    `benchmarks/course.py` has recorded them; and the sums."""
    measured = (
        records.read_benchmark("course")["notebooks"] if records.benchmark_path("course").exists() else {}
    )
    found = pd.DataFrame({name: _row(name, measured) for name in COURSE}).T
    found.loc["in all"] = found.sum(min_count=1)
    return found


def _row(name: str, measured: dict[str, dict[str, float]]) -> dict[str, float]:
    path = pages.FOLDER / f"{name}.ipynb"
    return {
        "reading": reading(path),
        "of which for code, figures and tables": beside(path),
        "exercises": practice(name),
        "bonus exercises": practice(name, bonus=True),
        "machine, one core": measured[name]["cpu_seconds"] / 60 if name in measured else math.nan,
    }
