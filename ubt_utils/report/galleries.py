"""Pictures of the attack suite: what triggers look like, when they take, what they survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from torchvision.transforms.functional import center_crop, resize

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.report.figures import ATTACK_NAMES, COLORS, LINES, TITLES, picture

SAMPLES = {"china": "danielbuechele", "flower": "vultilion"}  # as scikit-learn credits them
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


def attacks(triggers: Mapping[str, Trigger], image: torch.Tensor, blocks: int = 2) -> Figure:
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


def sample_photos(size: int) -> dict[str, torch.Tensor]:
    """Title with credit → (3, size, size) uint8: the two photos that scikit-learn ships (CC BY 2.0).

    They stand in for the photos of a data set, whose terms do not let a notebook show them.
    """
    found = {}
    for name, author in SAMPLES.items():
        photo = torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1)
        square = center_crop(photo, min(photo.shape[1:]))
        found[f"{name}, © {author}"] = resize(square, [size, size], antialias=True)
    return found


def carried(table: pd.DataFrame) -> Figure:
    """ASR and CA of each attack in two profiles, undefended → defended; table: `carryover.side_by_side`."""
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


def harm(table: pd.DataFrame) -> Figure:
    """What each model is still worth: a panel per ruler, a dot per model; table: `carryover.harm`."""
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


def paths(table: pd.DataFrame) -> Figure:
    """ASR along the steps of each defense: a panel per attack, a line per seed; table: `carryover.curves`
    or `cells.curves`."""
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


def second_look(known: torch.Tensor, gain: torch.Tensor, poisoned: torch.Tensor, bound: float) -> Figure:
    """A stroke per pair at its gain: D_u (k,), and the carriers of B outside the pool (c,), of which
    `poisoned` (c,) bool tells the truth. Who is right of `bound` is left out."""
    rows = {
        f"D_u, {len(known)} pairs": (known, "#555555"),
        f"outside, poisoned, {int(poisoned.sum())}": (gain[poisoned], COLORS["poisoned"]),
        f"outside, honest, {int((~poisoned).sum())}": (gain[~poisoned], COLORS["honest"]),
    }
    figure, axis = plt.subplots(figsize=(6.5, 1.9))
    for row, (values, color) in enumerate(rows.values()):
        axis.vlines(values, row - 0.32, row + 0.32, color=color, lw=1.1, alpha=0.7)
    axis.axvline(bound, color="#999999", lw=1, ls=":")
    axis.annotate("left out →", (bound, -0.62), (4, 0), textcoords="offset points", fontsize=8, va="center")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(2.5, -0.8)
    axis.set_xlabel("gain sb − s0")
    return figure


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


def by_noise(tables: Mapping[str, pd.DataFrame], less_is_better: str = "") -> Figure:
    """A heat map per measure: detectors × rate of caption noise, in the order of the first; dark is good.
    tables: `comparison.by_noise`."""
    order = next(iter(tables.values())).index
    size = (3.4 * len(tables) + 1.4, 4.2)
    figure, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        shown = table.loc[order].rename(columns=lambda noise: f"{noise:.0%}")
        colors = "Blues_r" if title == less_is_better else "Blues"
        sns.heatmap(shown, ax=axis, annot=True, fmt=".2f", vmin=0, vmax=1, cmap=colors, cbar=False)
        axis.set(title=title, xlabel="misplaced captions", ylabel="")
        axis.tick_params(length=0)
    return figure
