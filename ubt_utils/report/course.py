"""How long the course takes: reading by its words, exercises by their minutes, the machine as measured."""

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
WORDS = 130  # of prose a minute, with the code and the pictures beside it


def words(path: Path) -> tuple[int, int]:
    """Words of prose and of code in a notebook: what holds a letter or a digit. Exercises, tables of contents
    and addresses of links are not counted."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if not c.id.startswith("ex-")]
    prose = [re.sub(r"\]\([^)]*\)", "]", c.source) for c in cells if c.cell_type == "markdown"]
    prose[0] = prose[0].split("**Contents**")[0]
    return _count(prose), _count(c.source for c in cells if c.cell_type == "code")


def _count(texts: Iterable[str]) -> int:
    return sum(bool(re.search(r"\w", word)) for text in texts for word in text.split())


def reading(path: Path) -> int:
    """Minutes that a notebook takes to read."""
    return math.ceil(words(path)[0] / WORDS)


def practice(notebook: str) -> int:
    """Minutes that the exercises of a notebook ask for, those marked as a bonus left out."""
    asked = [one for one in pages.pages() if notebook.startswith(one.notebook) and one.task]
    return sum(one.minutes for one in asked if not one.hard.startswith(pages.BONUS))


def table() -> pd.DataFrame:
    """Minutes a notebook of the course: reading, exercises, and what the machine needs, as CPU minutes of one
    core, where `benchmarks/course.py` has recorded them; and the sums."""
    measured = (
        records.read_benchmark("course")["notebooks"] if records.benchmark_path("course").exists() else {}
    )
    rows = {
        name: {
            "reading": reading(pages.FOLDER / f"{name}.ipynb"),
            "exercises": practice(name),
            "machine, one core": measured[name]["cpu_seconds"] / 60 if name in measured else math.nan,
        }
        for name in COURSE
    }
    found = pd.DataFrame(rows).T
    found.loc["in all"] = found.sum(min_count=1)
    return found
