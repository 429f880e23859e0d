"""How far every rival is from UBT, and how sure that is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import FAINT, INK, LINES, TITLES, size, styled
from ubt_utils.ubt.settings import UBT

PANELS = {"asr": ("ASR", -1), "clean_accuracy": ("clean accuracy", 1)}  # title, sign of the better


@styled
def forest(table: pd.DataFrame) -> Figure:
    """Each rival minus UBT in points, ASR left and CA right, a row a rival with its clusters, in the order of
    the table: a point and its 95 % interval, or the point alone where there is none. Filled: the interval
    leaves out 0, green where UBT is the better and black where the rival is. table: `study_tables.rivals`."""
    figure, axes = plt.subplots(1, 2, figsize=size(9.8, 0.3 * len(table) + 1.25), sharey=True)
    for axis, (metric, (title, better)) in zip(axes, PANELS.items(), strict=True):
        axis.axvline(0, color="#444444", lw=0.9, zorder=1)
        for place, (_, row) in enumerate(table.iterrows()):
            mean, low, high = (100 * float(row[metric + end]) for end in ("", "_low", "_high"))
            _row(axis, place, mean, low, high, better)
        axis.set_title(f"{title}, rival − {UBT}", fontsize="medium")
        axis.set(xlabel=_sides(better), xmargin=0.08)
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(table)), [_label(name, row) for name, row in table.iterrows()])
    axes[0].set_ylim(len(table) - 0.4, -0.6)
    return figure


def _label(name: str, row: pd.Series) -> str:
    count = int(row.clusters)
    return f"{TITLES.get(name, name)} ({count} cluster{'s' * (count != 1)})"


def _sides(better: int) -> str:
    """Which side is whose."""
    left, right = (UBT, "rival") if better > 0 else ("rival", UBT)
    return f"← {left} better      points      {right} better →"


def _row(axis: plt.Axes, place: int, mean: float, low: float, high: float, better: int) -> None:
    """One difference, and the same as numbers at the right."""
    sure = not np.isnan(low)
    apart = sure and (low > 0 or high < 0)
    color = (INK if better * mean > 0 else LINES[UBT]) if apart else FAINT
    axis.errorbar(
        mean, place, xerr=[[mean - low], [high - mean]] if sure else None, fmt="o", ms=5.5, color=color,
        mfc=color if apart else "white", mew=1.2, capsize=2.5, elinewidth=1.3, zorder=3,
    )  # fmt: skip
    said = _points(mean) + (f"  [{_points(low)}, {_points(high)}]" if sure else "")
    axis.text(
        1.02, place, said, transform=axis.get_yaxis_transform(), va="center", fontsize="small", color=color
    )


def _points(value: float) -> str:
    """A difference with its sign, and none where it is 0.0."""
    said = f"{value:+.1f}".replace("-", "−")
    return said[1:] if said[1:] == "0.0" else said
