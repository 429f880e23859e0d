"""How scores set poisoned pairs apart: distributions, paths, rankings, the second look, detectors."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from ubt_utils.report.plots.style import COLORS, LINES, styled


def kinds(truth: torch.Tensor, misplaced: torch.Tensor) -> np.ndarray:
    """(N,) "poisoned", "misplaced" (caption of another pair) or "honest"; poison wins."""
    kind = np.full(len(truth), "honest", dtype=object)
    kind[misplaced.numpy()] = "misplaced"
    kind[truth.numpy()] = "poisoned"
    return kind


@styled
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


@styled
def overfit_path(steps: torch.Tensor, path: torch.Tensor, kind: np.ndarray) -> Figure:
    """Median and middle half of the held-out similarity along overfit training, by kind."""
    figure, axis = plt.subplots(figsize=(5.6, 3.1))
    for name, color in COLORS.items():
        inside = (kind == name) & np.isfinite(path[0].numpy())
        if not inside.any():  # a set may have none of a kind
            continue
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


@styled
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
        taken = torch.arange(1, len(hits) + 1)
        right.plot(taken, hits / taken, color=color, lw=width)
    left.set(
        xscale="log", xlim=(1e-4, 1), xlabel="false positive rate", ylabel="true positive rate", title="ROC"
    )
    right.axvline(k, color="#999999", lw=0.8, ls=":")
    right.set(xlim=(1, 2 * k), ylim=(-0.02, 1.02), xlabel="k, pairs taken from the top", title="precision@k")
    right.set_ylabel("poisoned among them")
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


@styled
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


@styled
def by_noise(tables: Mapping[str, pd.DataFrame], less_is_better: str = "") -> Figure:
    """A heat map per measure: detectors × rate of caption noise, in the order of the first; dark is good.
    tables: `detector_tables.by_noise`."""
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
