"""The stages: how they hang together, and how their cost grows."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import COLORS, styled


@styled
def chain_diagram(steps: Sequence[tuple[str, str, str]]) -> Figure:
    """The way of the data: boxes (stage, what it makes, notebook) joined by arrows."""
    figure, axis = plt.subplots(figsize=(1.65 * len(steps), 1.9))
    for i, (stage, makes, notebook) in enumerate(steps):
        axis.text(
            i, 0, f"{stage}", ha="center", va="center", fontsize=10, fontweight="bold", color="white",
            bbox={"boxstyle": "round,pad=0.5", "fc": COLORS["honest"], "ec": "none"},
        )  # fmt: skip
        axis.text(i, -0.5, makes, ha="center", va="top", fontsize=8.5, color="#333333")
        axis.text(i, 0.48, notebook, ha="center", va="bottom", fontsize=8, color="#777777")
        if i:
            axis.annotate(
                "", (i - 0.36, 0), (i - 0.64, 0), arrowprops={"arrowstyle": "->", "color": "#444444"}
            )
    axis.set(xlim=(-0.5, len(steps) - 0.5), ylim=(-1.25, 0.9))
    axis.set_axis_off()
    return figure


@styled
def growth(measured: pd.DataFrame) -> Figure:
    """Seconds over pairs, both logarithmic, a line per stage; solid on one rank, dashed on several. The thin
    lines grow linearly."""
    drawn, axes = plt.subplots(figsize=(7, 4.2))
    sns.lineplot(
        measured,
        x="pairs",
        y="seconds",
        hue="stage",
        style="ranks",
        markers=True,
        palette="colorblind",
        ax=axes,
    )
    sizes = np.array([measured.pairs.min(), measured.pairs.max()])
    for start in (1.0, 10.0):
        axes.plot(sizes, start * sizes / sizes[0], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="pairs in D", ylabel="seconds")
    axes.set_xticks(sorted(measured.pairs.unique()), [f"{n:,}" for n in sorted(measured.pairs.unique())])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return drawn
