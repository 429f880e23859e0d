"""Many runs in one picture: who stands where, by which way, at what cost, and what each part is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ubt_utils.core.records import NONE
from ubt_utils.report import defense_tables
from ubt_utils.report.plots.style import ATTACK_NAMES, LINES, TITLES, styled
from ubt_utils.ubt.settings import UBT

MARKS = "os^Dv<>pPXdh"
OTHERS = (  # no green and no violet: those are UBT's and fine-tuning's
    *("#1f77b4", "#ff7f0e", "#d62728", "#8c564b", "#e377c2", "#555555"),
    *("#bcbd22", "#17becf", "#aec7e8", "#ffbb78", "#ff9896", "#c49c94"),
)
FREE = 0.003  # part of the victim's cost below which nothing is told apart
FAR = 0.1  # change of CA that is written as a number, so that the others can be seen
RUN = ["profile", "attack", "seed"]
METRICS = {"asr": ("ASR (%)", "Reds"), "clean_accuracy": ("clean accuracy (%)", "Blues")}


@styled
def defense_heat(found: pd.DataFrame) -> Figure:
    """ASR and CA of every defense against every attack, mean over seeds; found:
    `defense_tables.standing_cells`."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 0.34 * found.defense.nunique() + 1.1), sharey=True)
    for axis, (metric, (title, palette)) in zip(axes, METRICS.items(), strict=True):
        shown = 100 * defense_tables.grid(found, metric).rename(TITLES).rename(columns=ATTACK_NAMES)
        top = 100 if metric == "asr" else None
        sns.heatmap(
            shown, ax=axis, annot=True, fmt=".1f", cmap=palette, vmin=0 if top else None, vmax=top,
            cbar=False, linewidths=0.6, annot_kws={"fontsize": 8},
        )  # fmt: skip
        axis.set(title=title, xlabel="", ylabel="")
        axis.tick_params(length=0)
    return figure


@styled
def choices(table: pd.DataFrame) -> Figure:
    """What each choice is worth; table: `defense_tables.ablations`. Left ASR (mean, and the worst as a ring),
    right the change of CA against UBT as it is, with its 95 % interval; what is far off is written as a
    number."""
    shown = table.sort_values(["worst ASR", "CA change"], ascending=[True, False], kind="stable")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 0.3 * len(shown) + 1.0), sharey=True)
    places = pd.Series(range(len(shown)), index=shown.index)
    left.plot(100 * shown.ASR, places, "o", color=LINES["ubt"], label="mean")
    left.plot(100 * shown["worst ASR"], places, "o", mfc="none", color="#C1272D", label="worst run")
    left.set(xlabel="ASR (%)", xlim=(-3, 103), yticks=places, yticklabels=shown.choice)
    left.legend(fontsize=8, loc="lower right")
    near = shown[shown["CA change"].abs() <= FAR]
    change = 100 * near["CA change"]
    reach = [change - 100 * near.low, 100 * near.high - change]
    right.errorbar(change, places[near.index], xerr=reach, fmt="o", color="#3B6FA0", capsize=2)
    right.axvline(0, color="#999999", lw=0.8, ls=":")
    for name, row in shown.drop(near.index).iterrows():
        text = (
            f"◂ {100 * row['CA change']:+.0f}" if row["CA change"] < 0 else f"{100 * row['CA change']:+.0f} ▸"
        )
        edge = {"x": 0.02, "ha": "left"} if row["CA change"] < 0 else {"x": 0.98, "ha": "right"}
        right.text(y=places[name], s=text, va="center", transform=right.get_yaxis_transform(), **edge)
    right.set(xlabel="CA against UBT as it is (points)")
    return figure


@styled
def study(runs: pd.DataFrame) -> Figure:
    """CA against ASR, a dot a run, a panel a poison rate; dotted: the mean CA of the clean twins. runs:
    `study_tables.recorded`, or its columns poison_rate, asr and clean_accuracy."""
    clean = runs.index.get_level_values("attack") == NONE
    twins, attacked = runs[clean], runs[~clean].reset_index()
    rates = sorted(attacked.poison_rate.unique())
    figure, axes = plt.subplots(1, len(rates), figsize=(4.3 * len(rates), 3.6), sharey=True, squeeze=False)
    styles = _styles(list(attacked.defense.unique()))
    for axis, rate in zip(axes[0], rates, strict=True):
        part = attacked[attacked.poison_rate == rate]
        for name, style in styles.items():
            own = part[part.defense == name]
            label = f"{TITLES.get(name, name)} ({len(attacked[attacked.defense == name])})"
            size = 7 if name in (NONE, UBT) else 5.5
            over = 2 + (name == UBT)  # a run that UBT lost must not lie under the others
            axis.plot(
                100 * own.asr, 100 * own.clean_accuracy, ls="", ms=size, mec="none", alpha=0.8, label=label,
                zorder=over, **style,
            )  # fmt: skip
        if len(twins):
            level = 100 * twins[twins.index.isin([NONE], level="defense")].clean_accuracy.mean()
            axis.axhline(level, color="#999999", lw=1.0, ls=":", label="clean twin")
        axis.set(title=f"{rate:.1%} of D poisoned", xlabel="ASR (%), less is better", xlim=(-4, 104))
    axes[0][0].set_ylabel("clean accuracy (%)")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), fontsize=8, title="a dot a run (how many)", title_fontsize=8,
        loc="outside lower center", ncols=4,
    )  # fmt: skip
    return figure


@styled
def budget(ways: pd.DataFrame) -> Figure:
    """ASR and CA over the part of the victim's cost, a row of panels each, a column a poison rate: a line a
    defense, mean over the runs that have the mark; thin: each run of UBT. What costs less than FREE stands at
    FREE. ways: `study_tables.paths`."""
    ways = ways.dropna(subset=["asr", "part"]).assign(part=lambda t: t.part.clip(lower=FREE))
    rates, styles = sorted(ways.poison_rate.unique()), _styles(list(ways.defense.unique()))
    figure, axes = plt.subplots(
        2, len(rates), figsize=(4.3 * len(rates), 5.4), sharex=True, sharey="row", squeeze=False
    )
    for column, rate in enumerate(rates):
        part = ways[ways.poison_rate == rate]
        for axis, (metric, (title, _)) in zip(axes[:, column], METRICS.items(), strict=True):
            for name, style in styles.items():
                own = part[part.defense == name]
                mark = own.groupby(RUN).cumcount()  # runs may reach it a step earlier or later
                way = own.groupby(mark)[["part", metric]].mean()
                width = 2.4 if name == UBT else 1.0
                axis.plot(way.part, 100 * way[metric], lw=width, ms=4, mec="none", label=name, **style)
            for _, run in part[part.defense == UBT].groupby(RUN):
                axis.plot(run.part, 100 * run[metric], color=styles[UBT]["color"], lw=0.6, alpha=0.5)
            axis.set(xscale="log", xlim=(0.9 * FREE, None), ylabel=title if column == 0 else "")
        axes[0][column].set(title=f"{rate:.1%} of D poisoned", ylim=(-3, 103))
        axes[1][column].set_xlabel("part of the victim's cost")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=5)
    return figure


@styled
def rungs(runs: pd.DataFrame, order: Sequence[str], names: Mapping[str, str] | None = None) -> Figure:
    """The ladder: ASR and CA of each rung, a dot a run, a line and a number at their mean. runs: index with
    defense, columns asr and clean_accuracy. order: of the rungs, the lowest first; names: what to call
    them."""
    there = [name for name in order if name in set(runs.index.get_level_values("defense"))]
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 0.42 * len(there) + 1.1), sharey=True)
    for axis, (metric, (title, _)) in zip(axes, METRICS.items(), strict=True):
        for place, name in enumerate(there):
            values = 100 * runs[runs.index.isin([name], level="defense")][metric].astype(float)
            _dots(axis, place, values, LINES[UBT] if name == UBT else "#3B6FA0")
        axis.set(xlabel=title, xmargin=0.1)
        axis.grid(axis="y", visible=False)
    labels = [
        f"{(names or {}).get(n, n)} ({int(runs.index.isin([n], level='defense').sum())})" for n in there
    ]
    axes[0].set(yticks=range(len(there)), yticklabels=labels, xlim=(-4, 112), ylim=(len(there) - 0.5, -0.6))
    return figure


def _dots(axis: plt.Axes, place: float, values: pd.Series, color: str) -> None:
    """The runs of one row beside each other, a line at their mean, and the mean as a number."""
    across = place + np.linspace(-0.16, 0.16, len(values)) * (len(values) > 1)
    axis.plot(values, across, "o", color=color, ms=4.5, alpha=0.8, mec="none")
    axis.vlines(values.mean(), place - 0.3, place + 0.3, color=color, lw=2)
    axis.annotate(
        f"{values.mean():.1f}", (values.max(), place), (6, 0), textcoords="offset points", va="center",
        fontsize=7, color=color,
    )  # fmt: skip


def _styles(names: list[str]) -> dict[str, dict[str, object]]:
    """Color and marker per defense; UBT's green and fine-tuning's violet as in all other figures, gray for
    undefended."""
    others = cycle(OTHERS)
    ordered = sorted(names, key=lambda name: (name not in (NONE, UBT), name))
    fixed = LINES | {NONE: LINES["undefended"]}
    return {
        name: {"color": fixed.get(name) or next(others), "marker": MARKS[i % len(MARKS)]}
        for i, name in enumerate(ordered)
    }
