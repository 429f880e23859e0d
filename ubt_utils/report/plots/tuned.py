"""What every defense could reach: all settings that were tried, and which of them was chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from ubt_utils.baselines import ranges
from ubt_utils.evaluate import choice, statistics
from ubt_utils.report.plots.matrix import FREE
from ubt_utils.report.plots.style import FAINT, INK, LINES, TITLES, size, styled
from ubt_utils.ubt.settings import UBT

UNKNOWN = "#9A9A9A"  # what it paid, where every trial diverged
PAID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # ticks, as parts of the victim's cost
MARKS: Mapping[str, Mapping[str, Any]] = {  # of a setting: title → as a line of the legend
    "met every victim": {"marker": "o", "mfc": "#777777", "mec": "#777777", "ms": 5.5},
    "met some victims": {"marker": "o", "mfc": "white", "mec": "#777777", "ms": 5.5, "mew": 1.1},
    "its source's setting": {"marker": "D", "mfc": "#777777", "mec": "#777777", "ms": 5.5},
    "diverged": {"marker": "X", "mfc": UNKNOWN, "mec": "none", "ms": 6.5},
    "chosen": {"marker": "o", "mfc": "none", "mec": INK, "ms": 11, "mew": 1.4},
}


@styled
def cloud(table: pd.DataFrame, columns: int = 5, most: float = math.inf, mends: bool = False) -> Figure:
    """Every setting that was tried, a panel per defense, UBT's first and the others by name: mean ASR over
    its victims (on a scale of square roots, so that the bar of 5 % has room) and mean CA, colored by the part
    of the victim's cost that it paid. Filled: it met every victim; a diamond: its source's own; ringed:
    chosen; shaded: where the mean ASR is within the bar. Above a panel how many hold on every victim that
    they met. table: `defense_tables.trials`; columns: panels a row at most; most, mends: which question the
    ringed setting answers, see `choice.within`; no ring where it has no answer."""
    settings = {name: choice.over_victims(part) for name, part in table.groupby("defense")}
    names = sorted(settings, key=lambda name: (name != UBT, name))
    high = -(-len(names) // columns)
    wide = -(-len(names) // high)  # rows as even as they can be
    figure, axes = plt.subplots(
        high, wide, figsize=size(1.9 * wide + 1.1, 1.85 * high + 0.6), sharex=True, sharey=True, squeeze=False
    )
    colors = _scale(table.paid)
    for axis, name in zip(axes.flat, names, strict=False):
        _panel(axis, name, settings[name], choice.chosen(settings[name], most, mends), colors)
    _frame(axes, len(names))
    _legends(figure, axes, colors)
    return figure


def _scale(paid: pd.Series) -> ScalarMappable:
    """From what was paid to a color, light to dark, so that it can be read in gray."""
    known = paid.dropna().clip(lower=FREE).tolist() or [FREE]
    low, high = min(known), max(known)
    colors = sns.color_palette("flare", as_cmap=True)
    return ScalarMappable(LogNorm(low, high if high > low else 2 * low), colors)


def _panel(axis: plt.Axes, name: str, found: pd.DataFrame, chosen: str, colors: ScalarMappable) -> None:
    """One defense; found: `choice.over_victims`; chosen: the setting that is ringed, or ""."""
    bar = 100 * statistics.BAR
    axis.axvspan(-100, bar, color=LINES[UBT], alpha=0.09, lw=0, zorder=0)
    axis.axvline(bar, color=FAINT, lw=0.8, zorder=1)
    whole = choice.met_all(found)
    for setting in sorted(found.index, key=lambda one: (one == chosen, whole[one])):  # the chosen one on top
        _dot(axis, found.loc[setting], setting, whole[setting], colors)
    ring = found.loc[found.index == chosen]
    axis.scatter(
        100 * ring.asr, 100 * ring.clean_accuracy, s=120, facecolor="none", edgecolor=INK, lw=1.4, zorder=4,
        label="chosen", clip_on=False,
    )  # fmt: skip
    color = LINES[UBT] if name == UBT else INK
    axis.set_title(TITLES.get(name, name), fontsize="medium", color=color, pad=12)
    hold = f"{int((found.worst <= statistics.BAR).sum())} of {len(found)} hold"
    axis.annotate(
        hold, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize="small",
        color=FAINT,
    )  # fmt: skip


def _dot(axis: plt.Axes, one: pd.Series, setting: str, whole: bool, colors: ScalarMappable) -> None:
    """One setting, at its mean ASR and CA."""
    color = UNKNOWN if np.isnan(one.paid) else colors.to_rgba(one.clip(lower=FREE).paid)
    if ranges.is_published(json.loads(setting)):
        label = "its source's setting"
    elif np.isnan(one.paid):
        label = "diverged"
    else:
        label = "met every victim" if whole else "met some victims"
    marker = MARKS[label]["marker"]
    axis.scatter(
        100 * one.asr, 100 * one.clean_accuracy, s=30, marker=marker, label=label, zorder=3, lw=1.1,
        facecolor=color if whole or label == "diverged" else "white", edgecolor=color, clip_on=False,
    )  # fmt: skip


def _frame(axes: np.ndarray, panels: int) -> None:
    """The scales that all panels share, and numbers and names of them where nothing is below or beside."""
    for number, axis in enumerate(axes.flat):
        if number >= panels:
            axis.set_axis_off()
            continue
        axis.set_xscale("function", functions=(_root, _square))
        axis.set_xlim(-0.3, 104)
        axis.xaxis.set_major_locator(FixedLocator([0, 5, 25, 50, 100]))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(MaxNLocator(4))
        axis.tick_params(labelsize="small")
        if number + axes.shape[1] >= panels:  # none below
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("ASR (%)", fontsize="small")
    for axis in axes[:, 0]:
        axis.set_ylabel("clean accuracy (%)", fontsize="small")


def _root(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.sqrt(np.abs(x))


def _square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.square(x)


def _legends(figure: Figure, axes: np.ndarray, colors: ScalarMappable) -> None:
    """What is said once for all panels."""
    bar = figure.colorbar(colors, ax=axes, aspect=35, fraction=0.03, pad=0.015)
    bar.set_label("paid, of the victim's cost", fontsize="small")
    low, high = bar.ax.get_ylim()
    bar.ax.yaxis.set_major_locator(FixedLocator([one for one in PAID if low <= one <= high]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda part, _: f"{100 * part:g} %"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize="small", which="both", length=2)
    bar.outline.set_visible(False)
    shown = {c.get_label() for axis in axes.flat for c in axis.collections}
    handles = [Line2D([], [], ls="", label=label, **mark) for label, mark in MARKS.items() if label in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), axes.shape[1] + 1))
