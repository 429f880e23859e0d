"""Where things live: stage folders, data sets, records."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def home() -> Path:
    """The checkout, or, where the package was installed from a wheel, the folder that one works in."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def runs() -> Path:
    """Stage folders: `runs/` at home, or the folder in UBT_RUNS."""
    return Path(os.environ.get("UBT_RUNS", home() / "runs"))


def data() -> Path:
    """Data sets: `data/` at home, or the folder in UBT_DATA."""
    return Path(os.environ.get("UBT_DATA", home() / "data"))


def photos() -> Path:
    """A reader's own photos, for profile `folder`: the folder in UBT_FOLDER, or `folder/` among the data."""
    return Path(os.environ.get("UBT_FOLDER", data() / "folder"))


def results() -> Path:
    """Committed records: `results/` at home, or the folder in UBT_RESULTS."""
    return Path(os.environ.get("UBT_RESULTS", home() / "results"))
