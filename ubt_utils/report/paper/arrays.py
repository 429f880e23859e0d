"""What the figures of notebooks 02 to 04 draw from stages' arrays, as it is recorded of one run."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from matplotlib.figure import Figure

from ubt_utils import profiles
from ubt_utils.core import paths, records
from ubt_utils.report import plots, readme

RECORD = f"{readme.FAMILY}/{records.FIGURES}"
LOUDEST = 8  # tokens that are shown


def recorded(name: str) -> Callable[[], pd.DataFrame]:
    """The table of one figure, empty where it is not recorded."""
    return lambda: _read().get(name, pd.DataFrame())


def _read() -> dict[str, pd.DataFrame]:
    path = paths.results() / RECORD
    if not path.exists():
        return {}
    return {name: pd.DataFrame(**table) for name, table in records.load(path)["figures"].items()}


def similarity(table: pd.DataFrame) -> Figure:
    """Notebook 02, under f0 and under fb."""
    return plots.density_panels(table, says="← the pool")


def drops(table: pd.DataFrame) -> Figure:
    """Notebook 02, a panel a disturbance."""
    return plots.density_panels(table, "similarity lost", f"{profiles.MINI.suspect.pool:.0%} of D →")


def sufferers(table: pd.DataFrame) -> Figure:
    """Notebook 03, the carriers of the word."""
    how = profiles.MINI.select
    suffers, poisoned, pool = (
        torch.tensor(table[name].to_numpy()) for name in ("suffers", "poisoned", "pool")
    )
    return plots.sufferers(suffers, poisoned, pool, how.alike, how.sure)


def loudest() -> pd.DataFrame:
    """The tokens of D_u that notebook 04 shows."""
    return recorded("tokens")().head(LOUDEST)


def tokens(table: pd.DataFrame) -> Figure:
    """Notebook 04, their surprise."""
    marked = set(table.word[table.compromised])
    return plots.token_bars(
        list(table.word), list(table.surprise), marked, "surprise G in the unlearning set (red: B)"
    )
