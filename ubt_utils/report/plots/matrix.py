"""Many runs in one picture: who stands where, by which way, at what cost, and what each part is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ubt_utils.core.records import NONE
from ubt_utils.report import defense_tables
from ubt_utils.report.plots.detection import dots
from ubt_utils.report.plots.style import ATTACK_NAMES, FAINT, INK, LINES, TITLES, marks, named, size, styled
from ubt_utils.ubt.settings import UBT

FREE = 0.003  # part of the victim's cost below which nothing is told apart
CROWD = 20  # runs from which single ones are drawn fainter
FAR = 0.1  # change of CA that is written as a number, so that the others can be seen
RUN = ["profile", "attack", "seed"]
METRICS = {"asr": ("ASR (%)", "Reds"), "clean_accuracy": ("clean accuracy (%)", "Blues")}


@styled
def defense_heat(found: pd.DataFrame) -> Figure:
    """ASR and CA of every defense against every attack, mean over seeds; found:
    `defense_tables.standing_cells`."""
    figure, axes = plt.subplots(1, 2, figsize=size(9.6, 0.34 * found.defense.nunique() + 1.1), sharey=True)
    for axis, (metric, (title, palette)) in zip(axes, METRICS.items(), strict=True):
        shown = 100 * defense_tables.grid(found, metric).rename(TITLES).rename(columns=ATTACK_NAMES)
        top = 100 if metric == "asr" else None
        sns.heatmap(
            shown, ax=axis, annot=True, fmt=".1f", cmap=palette, vmin=0 if top else None, vmax=top,
            cbar=False, linewidths=0.6, annot_kws={"fontsize": "small"},
        )  # fmt: skip
        axis.set(title=title, xlabel="", ylabel="")
        axis.tick_params(length=0, rotation=0)
    counts = found.groupby(["defense", "attack"]).size()
    span = "–".join(map(str, sorted({counts.min(), counts.max()})))
    axes[0].set_ylabel(f"means of {span} runs")
    return figure


@styled
def choices(table: pd.DataFrame) -> Figure:
    """What each choice is worth; table: `defense_tables.ablations`. Left ASR (mean, and the worst as a ring),
    right the change of CA against UBT as it is, with its 95 % interval; what is far off is written as a
    number."""
    shown = table.sort_values(["worst ASR", "CA change"], ascending=[True, False], kind="stable")
    figure, (left, right) = plt.subplots(1, 2, figsize=size(9.6, 0.3 * len(shown) + 1.3), sharey=True)
    places = pd.Series(range(len(shown)), index=shown.index)
    left.plot(100 * shown.ASR, places, "o", ms=4, color=INK, label="mean")
    left.plot(100 * shown["worst ASR"], places, "D", ms=7, mfc="none", color=FAINT, label="worst run")
    rows = [f"{row.choice} ({row.runs:.0f})" for row in shown.itertuples()]
    left.set(xlabel="ASR (%)", xlim=(-3, 103), yticks=places, yticklabels=rows)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    near = shown[shown["CA change"].abs() <= FAR]
    change = 100 * near["CA change"]
    reach = [change - 100 * near.low, 100 * near.high - change]
    right.errorbar(
        change, places[near.index], xerr=reach, fmt="o", ms=4, color=INK, elinewidth=1.2, capsize=2
    )
    right.axvline(0, color=FAINT, lw=0.8, ls=":")
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
    figure, axes = plt.subplots(
        1, len(rates), figsize=size(4.3 * len(rates), 3.6), sharey=True, squeeze=False
    )
    styles = marks(list(attacked.defense.unique()))
    for axis, rate in zip(axes[0], rates, strict=True):
        part = attacked[attacked.poison_rate == rate]
        for name, style in styles.items():
            own = part[part.defense == name]
            label = f"{TITLES.get(name, name)} ({len(attacked[attacked.defense == name])})"
            few = (attacked.defense == name).sum() < (attacked.defense == UBT).sum()
            over = 4 if few else 2 + (name == UBT)  # rare marks, and a run that UBT lost, lie on top
            axis.plot(
                100 * own.asr, 100 * own.clean_accuracy, ms=5, mew=0.4, mec="white", alpha=0.8, label=label,
                zorder=over, **(style | {"ls": ""}),
            )  # fmt: skip
        if len(twins):
            level = 100 * twins[twins.index.isin([NONE], level="defense")].clean_accuracy.mean()
            axis.axhline(level, color=FAINT, lw=1.0, ls=":", label="clean twin")
        axis.set(title=f"{rate:.1%} of D poisoned", xlabel="ASR (%), less is better", xlim=(-4, 104))
    axes[0][0].set_ylabel("clean accuracy (%)")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), title="a mark a run (how many)", title_fontsize="small",
        loc="outside lower center", ncols=4,
    )  # fmt: skip
    return figure


@styled
def budget(ways: pd.DataFrame) -> Figure:
    """ASR and CA over the part of the victim's cost, a row of panels each, a column a poison rate: a line a
    defense, mean over the runs that have the mark (how many runs in brackets), thin each run. What costs less
    than FREE stands at FREE. ways: `study_tables.paths`."""
    ways = ways.dropna(subset=["asr", "part"]).assign(part=lambda t: t.part.clip(lower=FREE))
    rates, styles = sorted(ways.poison_rate.unique()), marks(list(ways.defense.unique()))
    figure, axes = plt.subplots(
        2, len(rates), figsize=size(5.2 * len(rates), 5.4), sharex=True, sharey="row", squeeze=False
    )
    axes[0][0].set(xscale="log", xlim=(0.9 * FREE, 1.25), ylim=(-3, 103))
    axes[0][0].set_xticks([0.003, 0.01, 0.1, 1], ["0.3 %", "1 %", "10 %", "100 %"])
    axes[0][0].xaxis.set_minor_formatter(NullFormatter())
    for axis, metric in zip(axes[:, 0], METRICS, strict=True):
        axis.set_ylabel(METRICS[metric][0])
    for column, rate in zip(axes.T, rates, strict=True):
        column[0].set_title(f"{rate:.1%} of D poisoned")
        column[1].set_xlabel("part of the victim's cost")
        part = ways[ways.poison_rate == rate]
        ends = [_lines(axis, part, metric, styles) for axis, metric in zip(column, METRICS, strict=True)]
        for axis, end in zip(column, ends, strict=True):  # the axes have their limits now
            named(axis, end, {label: styles[label.split(" ")[0]]["color"] for label in end})
    return figure


def _lines(
    axis: plt.Axes, part: pd.DataFrame, metric: str, styles: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[float, float]]:
    """The lines of one panel of `budget`; per label where its line ends."""
    ends = {}
    for name, own in part.groupby("defense"):
        faint = 0.35 if own.groupby(RUN).ngroups < CROWD else 0.12
        for _, run in own.groupby(RUN):
            hair = {"color": styles[name]["color"], "lw": 0.4, "alpha": faint, "antialiased": False}
            axis.plot(run.part, 100 * run[metric], **hair)
        mark = own.groupby(RUN).cumcount()  # runs may reach it a step earlier or later
        way = own.groupby(mark)[["part", metric]].mean()
        width, label = 2.4 if name == UBT else 1.2, f"{name} ({own.groupby(RUN).ngroups})"
        axis.plot(way.part, 100 * way[metric], lw=width, ms=4, mec="none", label=label, **styles[name])
        ends[label] = (float(way.part.iloc[-1]), 100 * float(way[metric].iloc[-1]))
    return ends


@styled
def rungs(runs: pd.DataFrame, order: Sequence[str], names: Mapping[str, str] | None = None) -> Figure:
    """The ladder: ASR and CA of each rung, a dot a run, a line and a number at their mean. runs: index with
    defense, columns asr and clean_accuracy. order: of the rungs, the lowest first; names: what to call
    them."""
    there = [name for name in order if name in set(runs.index.get_level_values("defense"))]
    figure, axes = plt.subplots(1, 2, figsize=size(9.6, 0.42 * len(there) + 1.1), sharey=True)
    for axis, (metric, (title, _)) in zip(axes, METRICS.items(), strict=True):
        for place, name in enumerate(there):
            values = 100 * runs[runs.index.isin([name], level="defense")][metric].astype(float)
            dots(axis, place, values, LINES[UBT] if name == UBT else FAINT)
        axis.set(xlabel=title, xmargin=0.1)
        axis.grid(axis="y", visible=False)
    labels = [
        f"{(names or {}).get(n, n)} ({int(runs.index.isin([n], level='defense').sum())})" for n in there
    ]
    axes[0].set(yticks=range(len(there)), yticklabels=labels, xlim=(-4, 112), ylim=(len(there) - 0.5, -0.6))
    return figure
