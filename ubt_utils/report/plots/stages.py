"""The stages: how they hang together, and how their cost grows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ubt_utils.report.plots.style import COLORS, FAINT, INK, LINES, OTHER, PLAIN, size, styled

DEFENDS = ("suspect", "overfit", "select", "unlearn")  # stages of the method itself
LETTER = 0.55  # mean width of a letter, as a part of the font's size


@styled
def chain_diagram(steps: Sequence[tuple[str, str, str]]) -> Figure:
    """The way of the data: a box a stage (stage, what it makes, notebook), joined by arrows; red is what the
    attacker does, green the method."""
    figure, axis = plt.subplots(figsize=size(1.65 * len(steps), 1.6), layout="none")
    figure.subplots_adjust(0, 0, 1, 1)
    small = 0.833 * plt.rcParams["font.size"]
    letters = int(0.76 * 72 * figure.get_figwidth() / len(steps) / (LETTER * small))
    for i, (stage, makes, notebook) in enumerate(steps):
        color = COLORS["poisoned"] if stage == "attack" else LINES["ubt"] if stage in DEFENDS else INK
        _box(axis, i, color)
        axis.text(
            i, 0.81, stage, ha="center", va="center", fontsize="medium", fontweight="bold", color="white"
        )
        axis.text(i, 0.4, _fitted(makes, letters), ha="center", va="center", fontsize="small", color=INK)
        axis.text(i, 0.02, notebook, ha="center", va="bottom", fontsize="small", color=FAINT)
        if i:
            arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", (i - 0.43, 0.81), (i - 0.57, 0.81), arrowprops=arrow)
    axis.set(xlim=(-0.5, len(steps) - 0.5), ylim=(0, 1))
    axis.set_axis_off()
    return figure


def _fitted(text: str, letters: int) -> str:
    """The text as it is, or broken anew where a line has more letters than there is room for."""
    fits = max(map(len, text.split("\n"))) <= letters
    return text if fits else textwrap.fill(text.replace("\n", " "), letters)


def _box(axis: plt.Axes, place: float, color: str) -> None:
    """A card with a colored head."""
    for bottom, top, alpha in ((0.16, 0.94, 0.1), (0.68, 0.94, 1.0)):
        corner, wide = (place - 0.42, bottom), 0.84
        axis.add_patch(FancyBboxPatch(
            corner, wide, top - bottom, boxstyle="round,pad=0,rounding_size=0.03", fc=color, ec="none",
            alpha=alpha,
        ))  # fmt: skip


@styled
def growth(measured: pd.DataFrame) -> Figure:
    """Seconds over pairs, both logarithmic, a panel per stage: solid on one rank, dashed on several; a point
    is one measurement. The thin line grows linearly."""
    stages = list(measured.stage.unique())
    wide = -(-len(stages) // 2)
    figure, axes = plt.subplots(2, wide, figsize=size(7.6, 4.2), sharex=True, sharey=True, squeeze=False)
    sizes = np.array(sorted(measured.pairs.unique()))
    for axis in axes.flat[len(stages) :]:
        axis.set_axis_off()
    for axis, stage in zip(axes.flat, stages, strict=False):
        for number, (ranks, line) in enumerate(measured[measured.stage == stage].groupby("ranks")):
            label = f"{ranks} rank{'s' * (ranks > 1)}"
            form = {"marker": "ox"[number % 2], "ls": ("-", "--")[number % 2]}
            axis.plot(line.pairs, line.seconds, color=(INK, FAINT)[number % 2], ms=4, label=label, **form)
        start = measured[measured.stage == stage].sort_values("pairs").seconds.iloc[0]
        ends = sizes[[0, -1]]
        axis.plot(ends, start * ends / ends[0], color=OTHER, lw=0.7, zorder=0, label="linear")
        axis.set(title=stage, xscale="log", yscale="log")
        axis.yaxis.set_major_formatter(PLAIN)
    for axis in axes[-1]:
        axis.set_xticks([sizes[0], sizes[-1]], [f"{n / 1000:.0f}k" for n in (sizes[0], sizes[-1])])
        axis.minorticks_off()
    figure.supxlabel("pairs in D", fontsize="medium")
    figure.supylabel("seconds", fontsize="medium")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure
