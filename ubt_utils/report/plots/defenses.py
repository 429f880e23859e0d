"""What a defense does, run by run: the way of its rates over its steps, what is gained and what is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import ATTACK_NAMES, COLORS, LINES, TITLES, styled

OTHER = "#D08C2F"  # a defense without a color of its own


@styled
def defense_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], seconds: Mapping[str, float]) -> Figure:
    """ASR, CA and target recall along each defense, over its training steps."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.9), sharex=True)
    titles = {"asr": "ASR", "clean_accuracy": "clean accuracy", "target_recall": "target recall"}
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for name, curve in curves.items():
            table = pd.DataFrame(curve)
            color = LINES.get(name, OTHER)
            axis.plot(table.step, 100 * table[metric], color=color, marker="o", ms=3.5)
            label = f"{name}, {seconds[name]:.0f} s in all"
            if metric == "asr":
                axis.plot([], [], color=color, label=label)
        axis.set(title=f"{title} (%)", xlabel="training steps", ylim=(-3, 103))
    axes[0].legend(fontsize=8)
    return figure


@styled
def weight_path(table: pd.DataFrame, weight: float) -> Figure:
    """The path of one weight w of UBT's push over its steps, in front of the others; table:
    `defense_tables.weights`."""
    metrics = {
        "asr": "ASR (%)", "robust_accuracy": "robust accuracy (%)", "clean_accuracy": "clean accuracy (%)",
        "target_recall": "target recall (%)",
    }  # fmt: skip
    front = {"color": LINES["ubt"], "lw": 2.2, "marker": "o", "ms": 3.5, "zorder": 3}
    behind = {"color": "#d0d0d0", "lw": 1, "zorder": 1}
    figure, axes = plt.subplots(1, len(metrics), figsize=(10.4, 2.8), sharex=True)
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        for other, path in table.groupby("weight"):
            axis.plot(path.step, 100 * path[metric], **(front if other == weight else behind))
        axis.set(title=title, xlabel="steps", ylim=(-3, 103))
    figure.suptitle(f"w = {weight:g}", x=0.01, ha="left")
    return figure


@styled
def paths_by_attack(table: pd.DataFrame) -> Figure:
    """ASR along the steps of each defense: a panel per attack, a line per seed; table:
    `profile_tables.curves` or `cells.curves`."""
    names = list(table.attack.unique())
    figure, axes = plt.subplots(1, len(names), figsize=(3.3 * len(names), 2.8), sharey=True, squeeze=False)
    for axis, attack in zip(axes[0], names, strict=True):
        for (defense, _), line in table[table.attack == attack].groupby(["defense", "seed"]):
            axis.plot(line.step, 100 * line.asr, marker="o", ms=3, color=LINES[defense])
        axis.set(title=ATTACK_NAMES[attack], xlabel="training steps", ylim=(-3, 103))
    axes[0][0].set_ylabel("ASR (%)")
    for defense in table.defense.unique():
        axes[0][0].plot([], [], color=LINES[defense], label=defense)
    figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
    return figure


@styled
def side_by_side(table: pd.DataFrame) -> Figure:
    """ASR and CA of each attack in two profiles, undefended → defended; table:
    `profile_tables.side_by_side`."""
    profiles = list(table.index.get_level_values("profile").unique())
    names = list(table.index.get_level_values("attack").unique())
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.0))
    shown = {"asr": "ASR (%)", "clean_accuracy": "clean accuracy (%)", "target_recall": "target recall (%)"}
    for axis, (metric, label) in zip(axes, shown.items(), strict=True):
        for row, (attack, profile) in enumerate((a, p) for a in names for p in profiles):
            ends = {d: 100 * table.loc[(attack, d, profile), metric] for d in TITLES}
            axis.plot([ends["none"], ends["ubt"]], [row, row], color="#cccccc", lw=1.5, zorder=1)
            for defense, title in TITLES.items():
                axis.scatter(
                    ends[defense], row, color=LINES[title], s=30, zorder=2, label=title if row == 0 else ""
                )
        axis.set(xlabel=label, xlim=(-4, 104))
        axis.set_yticks([])
    rows = [f"{ATTACK_NAMES[a]}, {p}" for a in names for p in profiles]
    axes[0].set_yticks(range(len(rows)), rows)
    for axis in axes:
        axis.invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    return figure


@styled
def harm(table: pd.DataFrame) -> Figure:
    """What each model is still worth: a panel per ruler, a dot per model; table: `profile_tables.harm`."""
    figure, axes = plt.subplots(1, len(table.columns), figsize=(2.3 * len(table.columns), 3.6), sharey=True)
    names = [title if attack == "–" else f"{ATTACK_NAMES[attack]}: {title}" for attack, title in table.index]
    colors = [LINES.get({"backdoored": "undefended"}.get(t, t), COLORS["honest"]) for _, t in table.index]
    for axis, ruler in zip(axes, table.columns, strict=True):
        axis.scatter(100 * table[ruler], range(len(table)), color=colors, s=28)
        axis.axvline(100 * table[ruler].iloc[0], color="#999999", lw=0.8, ls=":")
        axis.set_xlabel(f"{ruler.replace('_', ' ')} (%)", fontsize=8)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    return figure
