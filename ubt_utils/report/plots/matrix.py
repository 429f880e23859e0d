"""The matrix: who stands where, by which way, and at what cost."""

from __future__ import annotations

from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ubt_utils.core.records import NONE
from ubt_utils.report import cells, defense_tables
from ubt_utils.report.plots.style import ATTACK_NAMES, LINES, TITLES, styled

MARKS = "os^Dv<>pPXdh"
OTHERS = (  # no green and no violet: those are UBT's and fine-tuning's
    *("#1f77b4", "#ff7f0e", "#d62728", "#8c564b", "#e377c2", "#555555"),
    *("#bcbd22", "#17becf", "#aec7e8", "#ffbb78", "#ff9896", "#c49c94"),
)
FAR = 0.1  # change of CA that is written as a number, so that the others can be seen
METRICS = {"asr": ("ASR (%)", "Reds"), "clean_accuracy": ("clean accuracy (%)", "Blues")}


@styled
def standing(found: pd.DataFrame) -> Figure:
    """ASR and CA of every defense over attacks and seeds, with 95 % intervals; rings: the worst run's ASR,
    dotted: undefended CA. found: `defense_tables.standing_cells`."""
    table = defense_tables.table(found).iloc[::-1].rename(TITLES)
    colors = [LINES["ubt"] if name == "ubt" else LINES["undefended"] for name in table.index]
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 0.27 * len(table) + 0.9), sharey=True)
    for axis, short in zip(axes, ("ASR", "CA"), strict=True):
        low, high = table[f"{short} low"].clip(0), table[f"{short} high"].clip(upper=1)
        axis.hlines(table.index, 100 * low, 100 * high, colors=colors, lw=1.4)
        axis.scatter(100 * table[short], table.index, color=colors, s=38, zorder=3)
    axes[0].scatter(
        100 * table["worst ASR"], table.index, color="none", ec="#C1272D", s=38, label="worst run"
    )
    axes[0].set(xlabel="ASR (%), less is better", xlim=(-3, 103))
    axes[0].legend(fontsize=8, loc="upper center")
    axes[1].axvline(100 * table.CA[TITLES[NONE]], color="#999999", lw=1.0, ls=":")
    axes[1].set(xlabel="clean accuracy (%), more is better", xlim=(0, None))
    return figure


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
def defense_paths(found: pd.DataFrame) -> Figure:
    """The CA–ASR plane: per attack each defense's way over its steps, mean over seeds, from where it starts
    to the mark where it ends. Points along the way are measured on fewer pictures than tables are."""
    curves = cells.curves(found)
    names = [n for n in defense_tables.table(found).index if n != NONE]
    styles, attacks = _styles(names), [a for a in ATTACK_NAMES if a in set(curves.attack)]
    figure, axes = plt.subplots(
        1, len(attacks), figsize=(3.4 * len(attacks), 3.9), sharey=True, squeeze=False
    )
    for axis, attack in zip(axes[0], attacks, strict=True):
        for name in names:
            runs = curves[(curves.attack == attack) & (curves.defense == name)]
            way = 100 * runs.groupby(runs.groupby("seed").cumcount())[["asr", "clean_accuracy"]].mean()
            strong = name == "ubt"
            axis.plot(way.asr, way.clean_accuracy, color=styles[name]["color"], lw=2.4 if strong else 1.0)
            axis.plot(*way.iloc[-1], ls="", ms=8 if strong else 6, mec="none", **styles[name], label=name)
        axis.set(title=ATTACK_NAMES[attack], xlabel="ASR (%)", xlim=(-4, 104))
    axes[0][0].set_ylabel("clean accuracy (%)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=6)
    return figure


@styled
def defense_cost(found: pd.DataFrame) -> Figure:
    """Cost against effect: ASR and CA over the seconds since the backdoored model, detection included; a line
    a defense, over attacks and seeds at each point of its way: median seconds, mean rates."""
    spent = _spent(found)
    names = [n for n in defense_tables.table(found).index if n != NONE]
    styles = _styles(names)
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.9), sharex=True)
    for axis, (metric, (title, _)) in zip(axes, METRICS.items(), strict=True):
        for name in names:
            way = spent.loc[name]
            width = 2.4 if name == "ubt" else 1.0
            axis.plot(way.seconds, 100 * way[metric], lw=width, ms=4, mec="none", **styles[name], label=name)
        axis.set(title=title, xlabel="seconds, detection included", xlim=(0, None))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=6)
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


def _styles(names: list[str]) -> dict[str, dict[str, object]]:
    """Color and marker per defense; UBT's green and fine-tuning's violet as in all other figures."""
    others = cycle(OTHERS)
    return {
        name: {"color": LINES.get(name) or next(others), "marker": MARKS[i % len(MARKS)]}
        for i, name in enumerate(sorted(names))
    }


def _spent(found: pd.DataFrame) -> pd.DataFrame:
    """Index (defense, point of its way): median seconds spent until there, mean ASR and CA."""
    keys = ["profile", "attack", "defense", "seed"]
    curves = cells.curves(found).merge(found[[*keys, "seconds", "detection_seconds"]], on=keys)
    last = curves.groupby(keys).step.transform("max")
    training = (curves.seconds - curves.detection_seconds) * curves.step / last
    spent = curves.assign(seconds=curves.detection_seconds + training, point=curves.groupby(keys).cumcount())
    return spent.groupby(["defense", "point"]).agg({"seconds": "median", **dict.fromkeys(METRICS, "mean")})
