"""How poisoned pairs are set apart: distributions, paths, rankings, words and their pictures, detectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from ubt_utils.evaluate.densities import densities
from ubt_utils.report.plots.labels import name_dots
from ubt_utils.report.plots.style import COLORS, FAINT, LINES, OTHER, PLAIN, named, size, styled
from ubt_utils.ubt.select import decisive
from ubt_utils.ubt.settings import Select

FORMS: Mapping[str, Mapping[str, Any]] = {  # of kinds of pairs, told apart in gray by their lines
    "honest": {"fill": True, "alpha": 0.4, "lw": 1.0},
    "misplaced": {"fill": False, "lw": 1.4, "ls": "--"},
    "poisoned": {"fill": False, "lw": 2.0},
}


@styled
def similarity_panels(
    panels: Mapping[str, torch.Tensor],
    kind: np.ndarray,
    label: str = "cos(picture, caption)",
    bounds: Mapping[str, float] | None = None,
    says: str = "",
    columns: int = 3,
) -> Figure:
    """Per title, how many poisoned, misplaced and honest pairs have which value (N,). bounds: where a panel
    has a dotted line. The others as in `density_panels`."""
    return density_panels(densities(panels, kind, bounds), label, says, columns)


@styled
def density_panels(
    table: pd.DataFrame, label: str = "cos(picture, caption)", says: str = "", columns: int = 3
) -> Figure:
    """A panel per title, how many pairs of each kind have which value, counts on a logarithmic scale. table:
    `densities`. label: what the values are. says: what lies beyond the dotted bound, with an arrow at its
    end, or at its beginning for what lies left. columns: panels a row."""
    panels = dict(list(table.groupby("panel", sort=False)))
    wide = min(columns, len(panels))
    high = -(-len(panels) // wide)
    figure, axes = plt.subplots(
        high, wide, figsize=size(3.5 * wide, 2.6 * high + 0.4), sharex=True, sharey=True, squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, part) in zip(axes.flat, panels.items(), strict=False):
        edges = [*part.low, part.high.iloc[-1]]
        for name, form in FORMS.items():
            counts = np.maximum(part[name], 0.5)
            axis.stairs(counts, edges, baseline=0.5, color=COLORS[name], label=name, **form)
        if np.isfinite(bound := part.bound.iloc[0]):
            _bound(axis, bound, says)
        axis.set(title=title, xlabel=label, yscale="log")
        axis.yaxis.set_major_formatter(PLAIN)
        axis.set_ylabel("pairs" if axis in axes[:, 0] else "")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.tick_params(labelbottom=True)  # of upper rows, too
    top = axes[0][0].get_ylim()[1] * (4 if says else 1)  # room for what is said
    axes[0][0].set_ylim(0.7, top)  # above the foot of what is empty
    totals = table.groupby("panel")[list(FORMS)].sum().max()  # a panel may lack what has no value
    handles = [
        Patch(ec=COLORS[name], fc=to_rgba(COLORS[name], 0.25), label=f"{name} ({totals[name]:,})")
        for name in FORMS
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _bound(axis: plt.Axes, place: float, says: str) -> None:
    """A dotted line, and at its head what lies beyond it."""
    axis.axvline(place, color=FAINT, lw=1, ls=":")
    left = says.startswith("←")
    axis.annotate(
        says, (place, 0.97), (-3 if left else 3, 0), xycoords=axis.get_xaxis_transform(),
        textcoords="offset points", ha="right" if left else "left", va="top", fontsize="small", color=FAINT,
    )  # fmt: skip


@styled
def overfit_path(steps: torch.Tensor, path: torch.Tensor, kind: np.ndarray) -> Figure:
    """Median and middle half of the held-out similarity along overfit training, by kind."""
    figure, axis = plt.subplots(figsize=size(5.6, 3.1))
    ends: dict[str, tuple[float, float]] = {}
    colors: dict[str, str] = {}
    for name, color in COLORS.items():
        dashes, wide = FORMS[name].get("ls", "-"), FORMS[name]["lw"] + 0.4
        inside = (kind == name) & np.isfinite(path[0].numpy())
        if not inside.any():  # a set may have none of a kind
            continue
        low, middle, high = np.quantile(path.numpy()[:, inside], [0.25, 0.5, 0.75], axis=1)
        axis.plot(steps, middle, color=color, marker="o", ms=4, ls=dashes, lw=wide)
        axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
        ends[label := f"{name} (n = {inside.sum():,})"] = (float(steps[-1]), middle[-1])
        colors[label] = color
    axis.set_xlabel("steps of overfit training on the other half of the pool")
    axis.set_ylabel("cos(picture, caption)\non pairs not trained on")
    named(axis, ends, colors)
    return figure


@styled
def ranking(scores: Mapping[str, torch.Tensor], truth: torch.Tensor, highlight: str, k: int) -> Figure:
    """ROC (log axis) and precision@k of several scores (N,): the highlighted one in color, the others in
    gray, named where their precision ends."""
    figure, (left, right) = plt.subplots(1, 2, figsize=size(9, 3.4))
    ends = {}
    for name, score in scores.items():
        chosen = name == highlight
        form = {"color": LINES["ubt"], "lw": 2.8, "zorder": 3} if chosen else {"color": OTHER, "lw": 1.1}
        rank = np.nan_to_num(score.double().numpy(), neginf=-1e9)
        false, true, _ = roc_curve(truth.numpy(), rank, drop_intermediate=False)
        left.plot(np.clip(false, 1e-4, 1), true, **form)
        hits = truth[score.sort(descending=True, stable=True).indices[: 2 * k]].double().cumsum(0)
        taken = torch.arange(1, len(hits) + 1)
        right.plot(taken, hits / taken, **form)
        ends[name] = (int(taken[-1]), float(hits[-1] / taken[-1]))
    left.set(
        xscale="log", xlim=(1e-4, 1), xlabel="false positive rate", ylabel="true positive rate", title="ROC",
        ylim=(-0.03, 1.03),
    )  # fmt: skip
    right.axvline(k, color=FAINT, lw=0.8, ls=":")
    right.set(xlim=(1, 2 * k), ylim=(-0.03, 1.03), xlabel="k, pairs taken from the top", title="precision@k")
    right.set_ylabel("poisoned among them")
    named(right, ends, {highlight: LINES["ubt"]})
    return figure


@styled
def agreement(
    asked: Sequence[Mapping[str, Any]], how: Select, found: Collection[str] = (), named: int = 4
) -> Figure:
    """Every word that was looked at, a dot each, at its surprise over the agreement that its pictures lose: a
    panel for words of few pictures and one for those of many, each with its bar. asked: each with word,
    surprise, carriers, lost and, `after`, how many words had been found before. found: the words that were
    believed; their dots are red, and full where they pass the bar. What was asked before their pairs stepped
    aside is gray. named: how many of the loudest other words have names in a panel, beside those."""
    figure, axes = plt.subplots(1, 2, figsize=size(9.4, 4), sharex=True)
    clear, names = [id(one) for one in decisive(asked, found)], []
    for axis, few in zip(axes, (True, False), strict=True):
        shown = sorted((one for one in asked if (one["carriers"] < how.many) == few), key=_loud, reverse=True)
        bar = how.lost if few else how.lost_of_many
        axis.axvline(bar, color=FAINT, lw=1, ls=":")
        says = f"fewer than {how.many} pictures" if few else f"{how.many} pictures or more"
        axis.set(title=f"{says}: bar {bar:g}", xlabel="agreement that its pictures lose")
        for one in sorted(shown, key=lambda each: (each["word"] in found, id(each) in clear)):  # gray below
            kind = "found" if one["word"] in found else "other" if id(one) in clear else "before"
            axis.plot(one["lost"], one["surprise"], **_dot(kind, one["lost"] >= bar))
        axis.set_ylim(0, 1.1 * max([one["surprise"] for one in shown], default=1.0))
        dots = [(one["lost"], one["surprise"]) for one in shown]
        names.append((axis, _names([one for one in shown if id(one) in clear], found, named), dots, [bar]))
    axes[0].set_ylabel("surprise G of the word")
    axes[0].set_xlim(right=max(axes[0].get_xlim()[1], how.lost + 0.15))
    kinds = {
        "believed word, passes its bar": ("found", True), "the same word, below it": ("found", False),
        "another word": ("other", False), "asked before those pairs stepped aside": ("before", False),
    }  # fmt: skip
    handles = [Line2D([], [], label=label, **_dot(*kind)) for label, kind in kinds.items()]
    wide = figure.get_figwidth() > 9  # as on a screen
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if wide else 2)
    figure.draw_without_rendering()  # names need the last places of the axes
    for axis, said, dots, bars in names:
        colors = {word: COLORS["poisoned" if word in found else "honest"] for word in said}
        name_dots(axis, said, colors, dots, bars)
    return figure


def _loud(one: Mapping[str, Any]) -> float:
    return one["surprise"]


def _dot(kind: str, passes: bool) -> dict[str, Any]:
    """How a word that was asked is drawn; what passes its bar is a diamond, to be read in gray, too."""
    color = {"found": COLORS["poisoned"], "other": COLORS["honest"], "before": "#C9C9C9"}[kind]
    hollow = {"mfc": "white"} if kind == "found" and not passes else {}
    return {"ls": "", "marker": "D" if passes else "o", "ms": 5.5, "mew": 1.1, "color": color, **hollow}


def _names(words: Sequence[Mapping[str, Any]], found: Collection[str], named: int) -> dict[str, Any]:
    """Found words and the loudest others → the dot (x, y) of each at its loudest, the loudest first."""
    shown: dict[str, tuple[float, float]] = {}
    for one in words:
        if one["word"] in found or len(set(shown) - set(found)) < named:
            shown.setdefault(one["word"], (one["lost"], one["surprise"]))
    return shown


@styled
def sufferers(
    suffers: torch.Tensor, truth: torch.Tensor, pool: torch.Tensor, alike: float, sure: float | None = None
) -> Figure:
    """A stroke per carrier of a word at what it suffers, relative to the median of the eight worst: suffers
    (c,). truth and pool (c,) bool: is it poisoned, is it in the pool? The pool is left out of D_safe as a
    whole: what is right of `sure` in it may be unlearned. Outside of it what is right of `alike` is left
    out, too."""
    rows = {
        f"{where}, {name}": (suffers[side & part], COLORS[color])
        for where, side in (("pool", pool), ("outside", ~pool))
        for name, part, color in (("poisoned", truth, "poisoned"), ("not poisoned", ~truth, "honest"))
    }
    places = (0.0, 1.0, 2.7, 3.7)
    figure, axis = plt.subplots(figsize=size(6.5, 2.7))
    for place, (values, color) in zip(places, rows.values(), strict=True):
        axis.vlines(values, place - 0.32, place + 0.32, color=color, lw=1.1, alpha=0.7)
    for bound, says, top in ((alike, "left out, too →", 1.75), (sure, "may be unlearned →", -0.95)):
        if bound is not None:
            axis.plot([bound, bound], [top - 0.2, top + 2.4], color=FAINT, lw=1, ls=":")
            axis.annotate(
                says, (bound, top), (4, 0), textcoords="offset points", fontsize="small", va="center"
            )
    axis.set_yticks(places, [f"{name}: {len(values)}" for name, (values, _) in rows.items()])
    axis.set_ylim(4.2, -1.3)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("suffers, relative to the median of the eight worst carriers")
    return figure


@styled
def by_noise(tables: Mapping[str, pd.DataFrame], less_is_better: str = "") -> Figure:
    """A heat map per measure: detectors × rate of caption noise, in the order of the first; dark is good.
    tables: `detector_tables.by_noise`."""
    order = next(iter(tables.values())).index
    figure, axes = plt.subplots(
        1, len(tables), figsize=size(3.4 * len(tables) + 1.4, 4.2), sharey=True, squeeze=False
    )
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        shown = table.loc[order].rename(columns=lambda noise: f"{noise:.0%}")
        colors = "Greys_r" if title == less_is_better else "Greys"
        sns.heatmap(shown, ax=axis, annot=True, fmt=".2f", vmin=0, vmax=1, cmap=colors, cbar=False)
        axis.set(title=title, xlabel="misplaced captions", ylabel="")
        axis.tick_params(length=0)
    return figure
