"""What a defense does, run by run: the way of its rates over its steps, what is gained and what is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import ATTACK_NAMES, FAINT, INK, LINES, TITLES, marks, named, size, styled


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
def paths_by_attack(table: pd.DataFrame) -> Figure:
    """ASR along the steps of each defense: a panel per attack, a line per seed; table:
    `profile_tables.curves` or `cells.curves`."""
    names, forms = list(table.attack.unique()), marks(list(table.defense.unique()))
    figure, axes = plt.subplots(
        1, len(names), figsize=size(3.3 * len(names), 2.8), sharey=True, squeeze=False
    )
    for axis, attack in zip(axes[0], names, strict=True):
        for (defense, _), line in table[table.attack == attack].groupby(["defense", "seed"]):
            axis.plot(line.step, 100 * line.asr, ms=3.5, **forms[defense])
        axis.set(title=ATTACK_NAMES[attack], xlabel="training steps", ylim=(-3, 103))
    axes[0][0].set_ylabel("ASR (%)")
    for defense in table.defense.unique():
        axes[0][0].plot([], [], label=f"{defense}, a line a seed", **forms[defense])
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def side_by_side(table: pd.DataFrame) -> Figure:
    """ASR and CA of each attack in two profiles, undefended → defended; table:
    `profile_tables.side_by_side`."""
    profiles = list(table.index.get_level_values("profile").unique())
    names = list(table.index.get_level_values("attack").unique())
    figure, axes = plt.subplots(1, 3, figsize=size(10.5, 3.0))
    shown = {"asr": "ASR (%)", "clean_accuracy": "clean accuracy (%)", "target_recall": "target recall (%)"}
    for axis, (metric, label) in zip(axes, shown.items(), strict=True):
        for row, (attack, profile) in enumerate((a, p) for a in names for p in profiles):
            ends = {d: 100 * table.loc[(attack, d, profile), metric] for d in TITLES}
            axis.plot([ends["none"], ends["ubt"]], [row, row], color="#cccccc", lw=1.5, zorder=1)
            for defense, form in marks(list(TITLES)).items():
                label_once = TITLES[defense] if row == 0 else ""
                axis.plot(ends[defense], row, ms=5.5, label=label_once, **(form | {"ls": ""}))
        axis.set(xlabel=label, xlim=(-4, 104))
        axis.set_yticks([])
    rows = [f"{ATTACK_NAMES[a]}, {p}" for a in names for p in profiles]
    axes[0].set_yticks(range(len(rows)), rows)
    for axis in axes:
        axis.invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def harm(table: pd.DataFrame) -> Figure:
    """What each model is still worth: a panel per ruler, a dot per model; table: `profile_tables.harm`."""
    figure, axes = plt.subplots(
        1, len(table.columns), figsize=size(2.3 * len(table.columns), 3.6), sharey=True
    )
    names = [title if attack == "–" else f"{ATTACK_NAMES[attack]}: {title}" for attack, title in table.index]
    forms = marks(["undefended", *TITLES])
    drawn = [
        forms.get({"backdoored": "undefended"}.get(t, t), {"color": INK, "marker": "*"})
        for _, t in table.index
    ]
    for axis, ruler in zip(axes, table.columns, strict=True):
        for row, (value, form) in enumerate(zip(100 * table[ruler], drawn, strict=True)):
            axis.plot(value, row, ms=5.5, **(form | {"ls": ""}))
        axis.axvline(100 * table[ruler].iloc[0], color=FAINT, lw=0.8, ls=":")
        axis.set_xlabel(f"{ruler.replace('_', ' ')} (%)", fontsize="small")
    axes[0].set_yticks(range(len(names)), names, fontsize="small")
    axes[0].invert_yaxis()
    return figure
