"""The attack suite: what triggers look like, when they take, what they survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.report.plots.pictures import picture
from ubt_utils.report.plots.style import ATTACK_NAMES, FAINT, INK, size, styled

STRENGTHS = (0.5, 1.0, 1.5)


def strengths(trigger: Trigger, image: torch.Tensor) -> dict[float, torch.Tensor]:
    """One picture (3, H, W) uint8 stamped at several multiples of the strength, where they exist."""
    stamped = {}
    for factor in STRENGTHS:
        try:
            changed = trigger if factor == 1 else trigger.scaled(factor)
        except ValueError:  # no strength, or more than the trigger can have
            continue
        stamped[factor] = stamp_bytes(changed, image[None])[0]
    return stamped


@styled
def attack_gallery(triggers: Mapping[str, Trigger], image: torch.Tensor, blocks: int = 2) -> Figure:
    """Attack × strength: a row per trigger, in `blocks` side by side; empty where it cannot be."""
    names, columns = list(triggers), len(STRENGTHS)
    rows = -(-len(names) // blocks)
    figure, axes = plt.subplots(
        rows, blocks * columns, figsize=size(blocks * 3.5, 0.85 * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, name in enumerate(names):
        row, start = number % rows, number // rows * columns
        for factor, stamped in strengths(triggers[name], image).items():
            axis = axes[row, start + STRENGTHS.index(factor)]
            picture(axis, stamped, f"{factor:g}×" if row == 0 else "")
        axes[row, start].text(
            -0.1, 0.5, name.replace("_", "\n"), transform=axes[row, start].transAxes, ha="right", va="center",
            fontsize="small",
        )  # fmt: skip
    return figure


@styled
def sweep_grid(table: pd.DataFrame, attacks: Sequence[str]) -> Figure:
    """ASR (%) of each model of a sweep: a panel per attack and poison rate, learning rates across and
    strengths down; a cell is one model, empty where none was trained."""
    panels = [
        (name, rate, part)
        for name in attacks
        for rate, part in table[table.attack == name].groupby("poison_rate")
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=size(2.3 * len(panels), 2.1), squeeze=False)
    for axis, (name, rate, part) in zip(axes[0], panels, strict=True):
        cells = 100 * part.pivot_table(index="strength", columns="lr", values="asr").astype(float)
        shown = cells.sort_index(ascending=False).rename("{:.2g}".format)
        sns.heatmap(
            shown.rename("{:.2g}".format, axis=1), ax=axis, annot=True, fmt=".0f", cmap="Reds", vmin=0,
            vmax=100, cbar=False, linewidths=1, square=True,
        )  # fmt: skip
        axis.set_title(f"{ATTACK_NAMES.get(name, name)}, {rate:.1%}", fontsize="medium")
        axis.set(xlabel="learning rate", ylabel=part.strength_name.iloc[0])
        axis.tick_params(length=0)
    return figure


@styled
def tried(table: pd.DataFrame) -> Figure:
    """ASR of each attack at its recipe (filled) and at everything else that was tried (hollow)."""
    strong = table[table.is_recipe].set_index("attack").asr.sort_values()
    place = {name: row for row, name in enumerate(strong.index)}
    others = table[~table.is_recipe]
    figure, axis = plt.subplots(figsize=size(6.2, 0.26 * len(strong) + 0.9))
    axis.plot(
        100 * others.asr, [place[name] for name in others.attack], "o", mfc="white", color=FAINT,
        label="other settings",
    )  # fmt: skip
    axis.plot(100 * strong, list(place.values()), "o", color=INK, label="recipe")
    axis.set_yticks(list(place.values()), list(place))
    axis.set(xlabel=f"ASR (%), one seed, {len(table)} models", xlim=(-3, 103))
    figure.legend(loc="outside upper right", ncols=2)
    return figure


@styled
def survival(table: pd.DataFrame) -> Figure:
    """Heat map of mean ASR (%): attacks × what happened to the picture on its way."""
    figure, axis = plt.subplots(figsize=size(7.2, 0.27 * len(table) + 1.0))
    sns.heatmap(
        100 * table, ax=axis, annot=True, fmt=".0f", cmap="Reds", vmin=0, vmax=100,
        annot_kws={"fontsize": "small"}, cbar_kws={"label": "ASR (%)"},
    )  # fmt: skip
    axis.set(xlabel="", ylabel="")
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize="small")
    return figure


@styled
def stealth_plane(table: pd.DataFrame) -> Figure:
    """PSNR and ASR of each attack, a row an attack, the hardest to see on top: means over its seeds (how many
    in brackets), ASR with their standard deviation. table: `attack_tables.attacks`."""
    shown = table.dropna(subset=["psnr"]).sort_values("psnr")
    figure, (left, right) = plt.subplots(
        1, 2, figsize=size(6.8, 0.23 * len(shown) + 0.9), sharey=True, width_ratios=[1, 1]
    )
    places = range(len(shown))
    counts = [len(str(seeds).split(",")) for seeds in shown.seeds]
    left.plot(shown.psnr, places, "o", color=INK, ms=5)
    left.set(xlabel="PSNR of stamped pictures (dB)\nright is harder to see", ylim=(-0.7, len(shown) - 0.3))
    left.set_yticks(places, [f"{name} ({n})" for name, n in zip(shown.index, counts, strict=True)])
    right.errorbar(
        100 * shown.asr, places, xerr=100 * shown.asr_std.fillna(0), fmt="o", color=INK, ms=5, elinewidth=1
    )
    right.set(xlabel="ASR (%), mean ± standard deviation", xlim=(None, 104))
    return figure
