"""What detection says of every set of pairs, and what comes of each run: a mark a run, no means alone."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ubt_utils.core.records import NONE
from ubt_utils.evaluate import statistics
from ubt_utils.report.plots.style import COLORS, FAINT, LINES, TITLES, marks, size, styled
from ubt_utils.ubt.settings import UBT, Select


@styled
def margins(found: pd.DataFrame, how: Select) -> Figure:
    """How far detection is from an error: a row the clean sets and each poison rate (how many sets), two
    marks a set: the agreement that the pictures of the target's words lose at most (red, filled), and that of
    any other word (blue, hollow). Dotted: the bars for few and for many pictures. found:
    `study_tables.detection`, or its index and columns poison_rate, lost and honest."""
    clean = found.index.get_level_values("attack") == NONE
    rows = {"clean": found[clean]}
    rows |= {f"{rate:.1%}": part for rate, part in found[~clean].groupby("poison_rate")}
    figure, axis = plt.subplots(figsize=size(6.4, 0.62 * len(rows) + 1.2))
    forms = {"lost": ("target's word", "D", "poisoned"), "honest": ("any other word", "o", "honest")}
    for column, (label, marker, kind) in forms.items():
        for place, part in enumerate(rows.values()):
            values = part[column].dropna()
            across = place + np.linspace(-0.3, 0.3, len(values)) * (len(values) > 1)
            axis.plot(
                values, across, marker, ms=4, mew=0.9, color=COLORS[kind], label=label if place == 1 else "",
                mfc=COLORS[kind] if column == "lost" else "white",
            )  # fmt: skip
    for bar, said in ((how.lost_of_many, f"{how.many} pictures or more"), (how.lost, "fewer")):
        axis.axvline(bar, color=FAINT, lw=1, ls=":")
        left = bar == how.lost_of_many
        axis.annotate(
            said, (bar, -0.75), (-3 if left else 3, 0), textcoords="offset points", va="center",
            ha="right" if left else "left", fontsize="small", color=FAINT,
        )  # fmt: skip
    axis.set_yticks(range(len(rows)), [f"{name} ({len(part)})" for name, part in rows.items()])
    axis.set(
        ylim=(len(rows) - 0.5, -1.0), xlabel="agreement that its pictures lose", ylabel="poisoned (sets)"
    )
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def before_after(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """ASR (%) of each run undefended and after UBT, joined; a panel of rows per title, the worst on top of
    each, dotted the bar. panels: index of names, columns undefended and ubt; fractions."""
    heights = [len(table) + 1.2 for table in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size(5.6, 0.21 * sum(heights) + 0.9), sharex=True, height_ratios=heights,
        squeeze=False,
    )  # fmt: skip
    for axis, (title, table) in zip(axes[:, 0], panels.items(), strict=True):
        shown = 100 * table.sort_values(UBT, ascending=False, kind="stable")
        places = range(len(shown))
        axis.hlines(places, shown[UBT], shown.undefended, color="#CCCCCC", lw=1.2, zorder=1)
        for name, form in marks([NONE, UBT]).items():
            values = shown[UBT if name == UBT else "undefended"]
            large = 5 if name == UBT else 7.5  # seen under the other where nothing was removed
            axis.plot(values, places, ms=large, label=TITLES[name], **(form | {"ls": ""}))
        axis.axvline(100 * statistics.BAR, color=FAINT, lw=1, ls=":")
        axis.set_yticks(places, list(shown.index))
        axis.set(title=title, xlim=(-3, 103), ylim=(len(shown) - 0.4, -0.6))
        axis.grid(axis="y", visible=False)
    axes[-1][0].set_xlabel("ASR (%)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def changes(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """What a defense changes, in points: a panel per column of the table, a row per name in its index, a dot
    a run, a line and a number at the mean. titles: columns → what they are called."""
    names = list(dict.fromkeys(table.index))
    figure, axes = plt.subplots(
        1, len(titles), figsize=size(9.6, 0.4 * len(names) + 0.9), sharey=True, squeeze=False
    )
    for axis, (column, title) in zip(axes[0], titles.items(), strict=True):
        axis.axvline(0, color=FAINT, lw=0.8)
        for place, name in enumerate(names):
            dots(axis, place, 100 * table.loc[[name], column].astype(float), LINES[UBT], "+.1f")
        axis.set(xlabel=f"{title} (points)", xmargin=0.12)
        axis.grid(axis="y", visible=False)
    counts = table.index.value_counts()
    axes[0][0].set_yticks(range(len(names)), [f"{name} ({counts[name]})" for name in names])
    axes[0][0].set_ylim(len(names) - 0.5, -0.6)
    return figure


def dots(axis: plt.Axes, place: float, values: pd.Series, color: str, form: str = ".1f") -> None:
    """The runs of one row beside each other, a line at their mean, and the mean as a number."""
    across = place + np.linspace(-0.16, 0.16, len(values)) * (len(values) > 1)
    axis.plot(values, across, "o", color=color, ms=4, alpha=0.7, mec="none")
    axis.vlines(values.mean(), place - 0.3, place + 0.3, color=color, lw=2)
    axis.annotate(
        f"{values.mean():{form}}".replace("-", "−"), (values.max(), place), (6, 0),
        textcoords="offset points", va="center", fontsize="small", color=color,
    )  # fmt: skip
