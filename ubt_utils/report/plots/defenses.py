"""What a defense does, run by run: the way of its rates over its steps, what is gained and what is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import FAINT, INK, LINES, TITLES, marks, named, size, styled


@styled
def defense_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], seconds: Mapping[str, float]) -> Figure:
    """ASR, CA and target recall along each defense of one run, over its training steps: a mark where they
    were read, thin lines between. The axis of CA is enlarged."""
    figure, axes = plt.subplots(1, 3, figsize=size(9.6, 3.1), sharex=True)
    titles = {"asr": "ASR", "clean_accuracy": "clean accuracy", "target_recall": "target recall"}
    forms, large = marks(list(curves)), dict(zip(curves, (5, 7.5, 10, 12.5), strict=False))
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for name, curve in curves.items():
            table = pd.DataFrame(curve)
            label = f"{name}, {seconds[name]:.0f} s in all"
            form = forms[name] | {"ms": large.get(name, 5), "mfc": "none", "lw": 0.9}
            axis.plot(table.step, 100 * table[metric], label=label, **form)
        axis.set(title=f"{title} (%)", xlabel="training steps", **_limits(metric))
    _enlarged(axes[1])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _limits(metric: str) -> dict[str, tuple[float, float]]:
    """All of the scale, but for CA, which moves by points."""
    return {} if metric == "clean_accuracy" else {"ylim": (-4, 107)}


def _enlarged(axis: plt.Axes) -> None:
    """Say that an axis does not begin at 0, and let it span two points at least."""
    low, high = axis.get_ylim()
    middle, half = (low + high) / 2, max(1.0, (high - low) / 2)
    axis.set_ylim(middle - half, middle + half)
    axis.set_xlabel(f"{axis.get_xlabel()} (scale enlarged)")


@styled
def weight_path(table: pd.DataFrame, weight: float) -> Figure:
    """The path of one weight w of UBT's push over its steps, in front of the others, which are gray and named
    where they end; the axis of CA is enlarged. table: `defense_tables.weights`."""
    metrics = {
        "asr": "ASR (%)", "robust_accuracy": "robust accuracy (%)", "clean_accuracy": "clean accuracy (%)",
        "target_recall": "target recall (%)",
    }  # fmt: skip
    front = marks(["ubt"])["ubt"] | {"lw": 2.2, "ms": 3.5, "zorder": 3}
    behind = {"color": "#B4B4B4", "lw": 1, "zorder": 1}
    figure, axes = plt.subplots(1, len(metrics), figsize=size(11.6, 2.8), sharex=True)
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        for other, path in table.groupby("weight"):
            axis.plot(path.step, 100 * path[metric], **(front if other == weight else behind))
        axis.set(title=title, xlabel="steps", **_limits(metric))
    _enlarged(axes[2])
    last = table.sort_values("step").groupby("weight").last()
    for axis, metric in zip(axes, metrics, strict=True):
        ends = {f"w = {w:g}": (float(row.step), 100 * row[metric]) for w, row in last.iterrows()}
        named(axis, ends, {f"w = {weight:g}": LINES["ubt"]})
    figure.suptitle(f"w = {weight:g}", x=0.01, ha="left")
    return figure


@styled
def carried(table: pd.DataFrame) -> Figure:
    """Each defense in several worlds: its ASR, and what it takes of clean accuracy and of target recall in
    points against the undefended models; a row a defense, a mark a world, large where it is UBT. table:
    `photo_tables.carried`."""
    shown = {
        "asr": "ASR (%)", "clean_accuracy_change": "clean accuracy (points)",
        "target_recall_change": "target recall (points)",
    }  # fmt: skip
    worlds, names = (list(table.index.get_level_values(level).unique()) for level in ("world", "defense"))
    figure, axes = plt.subplots(1, 3, figsize=size(10.5, 0.36 * len(names) + 1.2), sharey=True)
    for axis, (metric, label) in zip(axes, shown.items(), strict=True):
        for world, filled in zip(worlds, ("none", FAINT), strict=False):
            own = 100 * table.xs(world, level="world")[metric]
            rows = [names.index(name) for name in own.index]
            axis.plot(own, rows, "o", mfc=filled, mec=INK, ms=6, label=world)
        axis.axvline(0, color=FAINT, lw=0.8, ls=":")
        axis.set_xlabel(label)
    axes[0].set_yticks(range(len(names)), [TITLES.get(name, name) for name in names])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(worlds))
    return figure


@styled
def harm(table: pd.DataFrame) -> Figure:
    """What each model is still worth: a panel per ruler, a dot per model, a dotted line at the first one;
    table: `photo_tables.rulers`."""
    names, forms = list(table.index), marks(list(table.index))
    figure, axes = plt.subplots(
        1, len(table.columns), figsize=size(2.3 * len(table.columns), 0.3 * len(names) + 0.9), sharey=True
    )
    for axis, ruler in zip(axes, table.columns, strict=True):
        for row, name in enumerate(names):
            axis.plot(100 * table.loc[name, ruler], row, ms=6, **(forms[name] | {"ls": ""}))
        axis.axvline(100 * table[ruler].iloc[0], color=FAINT, lw=0.8, ls=":")
        axis.set_xlabel(f"{ruler.replace('_', ' ')} (%)", fontsize="small")
    axes[0].set_yticks(range(len(names)), [TITLES.get(name, name) for name in names], fontsize="small")
    axes[0].invert_yaxis()
    return figure
