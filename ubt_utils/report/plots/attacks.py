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
from ubt_utils.report.plots.style import COLORS, styled

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
    figure, axes = plt.subplots(rows, blocks * columns, figsize=(blocks * 3.5, 0.85 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, name in enumerate(names):
        row, start = number % rows, number // rows * columns
        for factor, stamped in strengths(triggers[name], image).items():
            axis = axes[row, start + STRENGTHS.index(factor)]
            picture(axis, stamped, f"{factor:g}×" if row == 0 else "")
        axes[row, start].text(
            -0.1, 0.5, name.replace("_", "\n"), transform=axes[row, start].transAxes, ha="right", va="center",
            fontsize=7,
        )  # fmt: skip
    return figure


@styled
def sweep_grid(table: pd.DataFrame, attacks: Sequence[str]) -> Figure:
    """ASR over learning rate and poison rate, a panel per attack, a line per rate and strength."""
    figure, axes = plt.subplots(
        1, len(attacks), figsize=(3.5 * len(attacks), 3.5), sharey=True, squeeze=False
    )
    for axis, name in zip(axes[0], attacks, strict=True):
        part = table[table.attack == name].sort_values("lr")
        for (rate, strength), line in part.groupby(["poison_rate", "strength"]):
            color = COLORS["poisoned"] if rate == part.poison_rate.max() else COLORS["honest"]
            style = "-" if strength == part.strength.max() else "--"
            label = f"{rate:.1%} poison, {strength:.2g}"
            axis.plot(line.lr, 100 * line.asr, style, color=color, marker="o", ms=4, label=label)
        axis.set(title=name, xscale="log", xlabel="learning rate", ylim=(-4, 104))
        axis.set_xticks(sorted(part.lr.unique()), [f"{lr:g}" for lr in sorted(part.lr.unique())])
        axis.minorticks_off()
        axis.axhline(50, color="#999999", lw=0.8, ls=":")
        axis.legend(
            fontsize=7, title=f"poison rate, {part.strength_name.iloc[0]}", title_fontsize=7, ncols=2,
            loc="upper center", bbox_to_anchor=(0.5, -0.22),
        )  # fmt: skip
    axes[0][0].set_ylabel("ASR (%)")
    return figure


@styled
def tried(table: pd.DataFrame) -> Figure:
    """ASR of each attack at its recipe (filled) and at everything else that was tried (hollow)."""
    strong = table[table.is_recipe].set_index("attack").asr.sort_values()
    place = {name: row for row, name in enumerate(strong.index)}
    others = table[~table.is_recipe]
    figure, axis = plt.subplots(figsize=(6.2, 0.26 * len(strong) + 0.9))
    axis.plot(
        100 * others.asr, [place[name] for name in others.attack], "o", mfc="white", color=COLORS["honest"],
        label="other settings",
    )  # fmt: skip
    axis.plot(100 * strong, list(place.values()), "o", color=COLORS["poisoned"], label="recipe")
    axis.set_yticks(list(place.values()), list(place))
    axis.set(xlabel=f"ASR (%), one seed, {len(table)} models", xlim=(-3, 103))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def survival(table: pd.DataFrame) -> Figure:
    """Heat map of mean ASR (%): attacks × what happened to the picture on its way."""
    figure, axis = plt.subplots(figsize=(7.2, 0.27 * len(table) + 1.0))
    sns.heatmap(
        100 * table, ax=axis, annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=100,
        annot_kws={"fontsize": 8}, cbar_kws={"label": "ASR (%)"},
    )  # fmt: skip
    axis.set(xlabel="", ylabel="")
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=7)
    return figure


@styled
def stealth_plane(table: pd.DataFrame) -> Figure:
    """ASR against PSNR, a named dot per attack; to the right is harder to see."""
    shown = table.dropna(subset=["psnr"])
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    axis.scatter(shown.psnr, 100 * shown.asr, color=COLORS["poisoned"], s=22)
    for number, (name, row) in enumerate(shown.sort_values("psnr").iterrows()):
        axis.annotate(
            name,
            (row.psnr, 100 * row.asr),
            (3, (-9, 5)[number % 2]),
            textcoords="offset points",
            fontsize=6.5,
        )
    axis.set(xlabel="PSNR of stamped pictures (dB); higher is harder to see", ylabel="ASR (%), mean of seeds")
    return figure
