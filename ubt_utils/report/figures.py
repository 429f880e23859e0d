"""Pictures that carry the story: one function each, from arrays to a matplotlib figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from ubt_utils.core import paths
from ubt_utils.report import tables

COLORS = {"poisoned": "#C1272D", "misplaced": "#E39B2D", "honest": "#3B6FA0"}
LINES = {
    "undefended": "#777777",
    "finetune": "#8E6BAF",
    "ubt": "#1B8A5A",
    "ubt-cut": "#D08C2F",
    "none": "#3B6FA0",
}
TITLES = {"none": "undefended", "finetune": "finetune", "ubt": "ubt"}  # defenses, as figures call them
ATTACK_NAMES = {"badnets": "BadNets", "blended": "Blended", "sig": "SIG", "none": "no attack"}
STYLE = Path(__file__).with_name("ubt.mplstyle")
plt.style.use(STYLE)


def save(figure: Figure, name: str) -> Figure:
    """Write the figure as PNG and PDF under runs/figures, for papers; returns it for display."""
    folder = paths.runs() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{kind}")
    plt.close(figure)  # the notebook shows the returned figure once, not twice
    return figure


def kinds(truth: torch.Tensor, misplaced: torch.Tensor) -> np.ndarray:
    """(N,) "poisoned", "misplaced" (caption of another pair) or "honest"; poison wins."""
    kind = np.full(len(truth), "honest", dtype=object)
    kind[misplaced.numpy()] = "misplaced"
    kind[truth.numpy()] = "poisoned"
    return kind


def picture(axis: plt.Axes, image: torch.Tensor, title: str = "", color: str = "#333333") -> None:
    """Show (3, H, W), uint8 or float [0, 1], without ticks."""
    data = image.float() / 255 if image.dtype == torch.uint8 else image
    axis.imshow(data.permute(1, 2, 0).numpy())
    axis.set_title(title, fontsize=8, color=color, loc="center", fontweight="normal")
    axis.set_axis_off()


def gallery(rows: Mapping[str, Sequence[torch.Tensor]], captions: Sequence[str]) -> Figure:
    """A grid: one row per trigger (its name at the left), one column per picture."""
    figure, axes = plt.subplots(
        len(rows), len(captions), figsize=(1.45 * len(captions), 1.55 * len(rows)), squeeze=False
    )
    for number, (line, (name, images)) in enumerate(zip(axes, rows.items(), strict=True)):
        for axis, image, caption in zip(line, images, captions, strict=True):
            picture(axis, image, "" if number else caption)
        line[0].text(-0.12, 0.5, name, transform=line[0].transAxes, rotation=90, va="center", ha="right")
    return figure


def wrap(caption: str, width: int = 18) -> str:
    """A caption on several short lines, as titles of small pictures need."""
    return "\n".join(textwrap.wrap(caption, width))


def suspects(pairs: Sequence[tuple[torch.Tensor, str, bool]]) -> Figure:
    """A row of (picture, caption, poisoned?); the caption's color tells the truth."""
    figure, axes = plt.subplots(1, len(pairs), figsize=(1.45 * len(pairs), 1.9), squeeze=False)
    for axis, (image, caption, bad) in zip(axes[0], pairs, strict=True):
        picture(axis, image, wrap(caption), COLORS["poisoned" if bad else "honest"])
    return figure


def answers(panels: Sequence[tuple[str, torch.Tensor, Mapping[str, float]]], target: str) -> Figure:
    """Per panel (title, picture, class → probability): the picture and the model's top answers."""
    figure, axes = plt.subplots(
        2, len(panels), figsize=(2.9 * len(panels), 3.6), height_ratios=[1.25, 1], squeeze=False
    )
    for (top, bottom), (title, image, chance) in zip(axes.T, panels, strict=True):
        picture(top, image, title)
        names = list(chance)[::-1]
        colors = [COLORS["poisoned"] if n == target else COLORS["honest"] for n in names]
        bottom.barh(names, [100 * chance[n] for n in names], color=colors)
        bottom.set_xlim(0, 100)
        bottom.set_xlabel("probability (%)")
        bottom.grid(axis="y", visible=False)
    return figure


def similarity_panels(panels: Mapping[str, torch.Tensor], kind: np.ndarray) -> Figure:
    """Per model, how cos(picture, caption) of poisoned, misplaced and honest pairs is distributed."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.5 * len(panels), 2.9), sharex=True, squeeze=False)
    for axis, (title, similarity) in zip(axes[0], panels.items(), strict=True):
        for name in ("honest", "misplaced", "poisoned"):
            values = similarity.numpy()[kind == name]
            values = values[np.isfinite(values)]
            sns.kdeplot(
                x=values, ax=axis, color=COLORS[name], fill=True, alpha=0.25, lw=1.6,
                label=f"{name} ({len(values):,})", warn_singular=False, cut=0,
            )  # fmt: skip
        axis.set_title(title)
        axis.set_xlabel("cos(picture, caption)")
        axis.set_ylabel("density" if axis is axes[0][0] else "")
        axis.set_yticks([])
    axes[0][0].legend(loc="upper left", fontsize=8)
    return figure


def overfit_path(steps: torch.Tensor, path: torch.Tensor, kind: np.ndarray) -> Figure:
    """Median and middle half of the held-out similarity along overfit training, by kind."""
    figure, axis = plt.subplots(figsize=(5.6, 3.1))
    for name, color in COLORS.items():
        inside = (kind == name) & np.isfinite(path[0].numpy())
        low, middle, high = np.quantile(path.numpy()[:, inside], [0.25, 0.5, 0.75], axis=1)
        axis.plot(steps, middle, color=color, marker="o", ms=4)
        axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
        axis.annotate(
            f"{name} (n = {inside.sum():,})", (steps[-1], middle[-1]), (6, 0), color=color,
            textcoords="offset points", va="center", annotation_clip=False,
        )  # fmt: skip
    axis.set_xlabel("steps of overfit training on the other half of the pool")
    axis.set_ylabel("cos(picture, caption)\non pairs not trained on")
    return figure


def ranking(scores: Mapping[str, torch.Tensor], truth: torch.Tensor, highlight: str, k: int) -> Figure:
    """ROC (log axis) and precision@k of several scores (N,); the highlighted one in color."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    greys = iter(sns.color_palette("muted", len(scores)))
    for name, score in scores.items():
        shade = next(greys)
        color, width = (LINES["ubt"], 2.8) if name == highlight else (shade, 1.3)
        rank = np.nan_to_num(score.double().numpy(), neginf=-1e9)
        false, true, _ = roc_curve(truth.numpy(), rank, drop_intermediate=False)
        left.plot(np.clip(false, 1e-4, 1), true, color=color, lw=width, label=name)
        hits = truth[score.sort(descending=True, stable=True).indices[: 2 * k]].double().cumsum(0)
        right.plot(range(1, 2 * k + 1), hits / torch.arange(1, 2 * k + 1), color=color, lw=width)
    left.set(
        xscale="log", xlim=(1e-4, 1), xlabel="false positive rate", ylabel="true positive rate", title="ROC"
    )
    right.axvline(k, color="#999999", lw=0.8, ls=":")
    right.set(xlim=(1, 2 * k), ylim=(-0.02, 1.02), xlabel="k, pairs taken from the top", title="precision@k")
    right.set_ylabel("poisoned among them")
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def token_bars(words: Sequence[str], values: Sequence[float], marked: set[str], label: str) -> Figure:
    """Horizontal bars of tokens, the marked ones in red."""
    figure, axis = plt.subplots(figsize=(5.4, 0.27 * len(words) + 0.7))
    colors = [COLORS["poisoned"] if w in marked else "#B8C4D0" for w in words]
    axis.barh(range(len(words)), values, color=colors)
    axis.set_yticks(range(len(words)), words)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(label)
    return figure


def colored_caption(words: Sequence[str], drops: Sequence[float], marked: set[str]) -> str:
    """One caption as HTML: red = the token holds picture and caption together, underlined = in B."""
    top = max([abs(d) for d in drops] + [1e-9])
    spans = []
    for word, drop in zip(words, drops, strict=True):
        red, alpha = ("193,39,45" if drop > 0 else "59,111,160"), 0.85 * abs(drop) / top
        line = "border-bottom:3px solid #222;" if word in marked else ""
        spans.append(
            f'<span title="{drop:+.3f}" style="background:rgba({red},{alpha:.2f});{line}'
            f'padding:2px 5px;margin:1px;border-radius:3px">{escape(word)}</span>'
        )
    style = "font-family:monospace;line-height:2.1;color:#111;background:#fff"
    return f'<div style="{style}">{"".join(spans)}</div>'


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


def chain(steps: Sequence[tuple[str, str, str]]) -> Figure:
    """The way of the data: boxes (stage, what it makes, notebook) joined by arrows."""
    figure, axis = plt.subplots(figsize=(10, 1.9))
    for i, (stage, makes, notebook) in enumerate(steps):
        axis.text(
            i, 0, f"{stage}", ha="center", va="center", fontsize=10, fontweight="bold", color="white",
            bbox={"boxstyle": "round,pad=0.5", "fc": COLORS["honest"], "ec": "none"},
        )  # fmt: skip
        axis.text(i, -0.5, makes, ha="center", va="top", fontsize=8.5, color="#333333")
        axis.text(i, 0.48, notebook, ha="center", va="bottom", fontsize=8, color="#777777")
        if i:
            axis.annotate(
                "", (i - 0.36, 0), (i - 0.64, 0), arrowprops={"arrowstyle": "->", "color": "#444444"}
            )
    axis.set(xlim=(-0.5, len(steps) - 0.5), ylim=(-1.25, 0.9))
    axis.set_axis_off()
    return figure
