"""What a defense does, run by run: the way of its rates over its steps, what is gained and what is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ubt_utils.report import tables
from ubt_utils.report.plots.style import ATTACK_NAMES, COLORS, LINES, TITLES, styled


@styled
def defense_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], seconds: Mapping[str, float]) -> Figure:
    """ASR, CA and target recall along each defense, over its training steps."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.9), sharex=True)
    titles = {"asr": "ASR", "clean_accuracy": "clean accuracy", "target_recall": "target recall"}
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for name, curve in curves.items():
            table = pd.DataFrame(curve)
            axis.plot(table.step, 100 * table[metric], color=LINES[name], marker="o", ms=3.5)
            label = f"{name}, {seconds[name]:.0f} s in all"
            if metric == "asr":
                axis.plot([], [], color=LINES[name], label=label)
        axis.set(title=f"{title} (%)", xlabel="training steps", ylim=(-3, 103))
    axes[0].legend(fontsize=8)
    return figure


@styled
def plane(rows: pd.DataFrame) -> Figure:
    """CA against ASR: one panel per attack, a dot per seed, an arrow from undefended to defended."""
    wide = tables.wide(rows)
    names = [a for a in ATTACK_NAMES if a in wide.index.get_level_values(0) and a != "none"]
    figure, axes = plt.subplots(1, len(names), figsize=(3.3 * len(names), 3.1), sharey=True, squeeze=False)
    for axis, attack in zip(axes[0], names, strict=True):
        mean = 100 * wide.loc[attack].groupby("defense")[["asr", "clean_accuracy"]].mean()
        for defense, label in TITLES.items():
            dots = 100 * wide.loc[(attack, defense)]
            axis.scatter(dots.asr, dots.clean_accuracy, s=26, color=LINES[label], alpha=0.75, label=label)
            if defense != "none":
                axis.annotate(
                    "", mean.loc[defense], mean.loc["none"],
                    arrowprops={"arrowstyle": "->", "color": LINES[label], "lw": 1.2},
                )  # fmt: skip
        axis.set(title=ATTACK_NAMES[attack], xlabel="ASR (%)", xlim=(-4, 104))
    axes[0][0].set_ylabel("clean accuracy (%)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(labels))
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


@styled
def headline(table: pd.DataFrame) -> Figure:
    """ASR and CA of each attack, undefended, fine-tuned and unlearned: a dot per seed, a line at their mean.
    table: index (attack, defense, seed), columns asr and clean_accuracy, fractions."""
    shown = {"asr": ("ASR (%)", "less is better"), "clean_accuracy": ("clean accuracy (%)", "more is better")}
    table, known = table.sort_index(), set(table.index.get_level_values("attack"))
    attacks = [attack for attack in ATTACK_NAMES if attack in known]
    figure, axes = plt.subplots(1, 2, figsize=(2.2 * len(attacks) + 2.6, 3.2))
    for axis, (metric, (label, better)) in zip(axes, shown.items(), strict=True):
        for (i, attack), (j, (defense, title)) in product(enumerate(attacks), enumerate(TITLES.items())):
            _runs(axis, i + 0.27 * (j - 1), 100 * table.loc[(attack, defense), metric], LINES[title])
        axis.set_xticks(range(len(attacks)), [_counted(table.loc[a], ATTACK_NAMES[a]) for a in attacks])
        axis.set(ylabel=label, title=better, ylim=(-4, 109), xlim=(-0.5, len(attacks) - 0.5))
        axis.grid(axis="x", visible=False)
    for title in TITLES.values():
        axes[0].plot([], [], "o", color=LINES[title], label=title)
    seeds = ", ".join(map(str, sorted(set(table.index.get_level_values("seed")))))
    figure.legend(
        *axes[0].get_legend_handles_labels(), title=f"dots: seeds {seeds}; lines and numbers: their means",
        fontsize=8, title_fontsize=8, loc="outside lower center", ncols=len(TITLES),
    )  # fmt: skip
    return figure


def _runs(axis: plt.Axes, place: float, values: pd.Series, color: str) -> None:
    """The runs of one defense side by side around `place`, a line at their mean, and the mean as a number."""
    across = place + np.linspace(-0.06, 0.06, len(values)) * (len(values) > 1)
    axis.plot(across, values, "o", color=color, ms=4.5, alpha=0.8, mec="none")
    axis.hlines(values.mean(), place - 0.11, place + 0.11, color=color, lw=2)
    axis.annotate(
        f"{values.mean():.1f}", (place, values.max()), (0, 4), textcoords="offset points", ha="center",
        fontsize=7, color=color,
    )  # fmt: skip


def _counted(runs: pd.DataFrame, name: str) -> str:
    """The attack's name with how many seeds each of its models has."""
    counts = sorted(set(runs.groupby("defense").size()))
    return f"{name}\nn = {'–'.join(map(str, counts))}"
