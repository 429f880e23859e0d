"""Pictures of pairs: what a trigger looks like, what a model answers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import COLORS, FAINT, legible, size, styled

Color = str | tuple[float, ...]


def picture(axis: plt.Axes, image: torch.Tensor, title: str = "", color: Color = "#333333") -> None:
    """Show (3, H, W), uint8 or float [0, 1], without ticks."""
    data = image.float() / 255 if image.dtype == torch.uint8 else image
    axis.imshow(data.permute(1, 2, 0).numpy())
    axis.set_title(title, fontsize="small", color=color, loc="center", fontweight="normal")
    axis.set_axis_off()


def wrap(caption: str, width: int = 18) -> str:
    """A caption on several short lines, as titles of small pictures need."""
    return "\n".join(textwrap.wrap(caption, width))


@styled
def gallery(
    rows: Mapping[str, Sequence[torch.Tensor]],
    captions: Sequence[str],
    groups: Mapping[str, int] | None = None,
) -> Figure:
    """A grid: one row per trigger (its name at the left), one column per picture. groups: title → how many
    columns it stands above, from the left; ValueError where these are not all columns."""
    heads = {wrap(title, 17 * columns): columns for title, columns in (groups or {}).items() if columns}
    head = max((0.16 + 0.15 * len(title.splitlines()) for title in heads), default=0.0)  # inches
    figure, axes = plt.subplots(
        len(rows) + bool(heads), len(captions), squeeze=False,
        figsize=size(1.45 * len(captions), 1.55 * len(rows) + head),
        height_ratios=[head] * bool(heads) + [1.55] * len(rows),
    )  # fmt: skip
    if heads:
        _heads(axes[0], heads)
        axes = axes[1:]
    for number, (line, (name, images)) in enumerate(zip(axes, rows.items(), strict=True)):
        for axis, image, caption in zip(line, images, captions, strict=True):
            picture(axis, image, "" if number else caption)
        line[0].text(-0.12, 0.5, name, transform=line[0].transAxes, rotation=90, va="center", ha="right")
    return figure


def _heads(line: Sequence[plt.Axes], groups: Mapping[str, int]) -> None:
    """In place of a row of axes a title per group, over a rule as wide as its columns."""
    if sum(groups.values()) != len(line):
        raise ValueError(f"the groups have {sum(groups.values())} of {len(line)} columns")
    figure, grid, start = line[0].figure, line[0].get_gridspec(), 0
    assert grid is not None  # they were made by plt.subplots
    for axis in line:
        axis.remove()
    for title, columns in groups.items():
        axis = figure.add_subplot(grid[0, start : start + columns])
        axis.plot([0.01, 0.98], [0, 0], color=FAINT, lw=1, clip_on=False)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        axis.set_axis_off()
        axis.text(0.01, 0.2, title, fontweight="bold", fontsize="small", in_layout=False)
        start += columns


@styled
def suspects(pairs: Sequence[tuple[torch.Tensor, str, bool | str]]) -> Figure:
    """A row of (picture, caption, poisoned?); the caption's color tells the truth. In the place of yes or no
    the kind of pair, such as "misplaced"."""
    figure, axes = plt.subplots(1, len(pairs), figsize=size(1.45 * len(pairs), 1.9), squeeze=False)
    for axis, (image, caption, bad) in zip(axes[0], pairs, strict=True):
        kind = bad if isinstance(bad, str) else ("poisoned" if bad else "honest")
        picture(axis, image, wrap(caption), legible(COLORS[kind]))
    return figure


@styled
def answers(panels: Sequence[tuple[str, torch.Tensor, Mapping[str, float]]], target: str) -> Figure:
    """Per panel (title, picture, class → probability): the picture and the model's top answers. Every place
    is fixed, however long the names are, so that figures may follow each other in a film."""
    figure, axes = plt.subplots(
        2, len(panels), figsize=size(2.9 * len(panels), 3.6), height_ratios=[1.25, 1], squeeze=False,
        layout="none",
    )  # fmt: skip
    edge = 1.35 / 2.9 / len(panels)  # the room of a name
    figure.subplots_adjust(edge, 0.14, 1 - edge / 6, 0.92, wspace=1.15, hspace=0.2)
    for (top, bottom), (title, image, chance) in zip(axes.T, panels, strict=True):
        picture(top, image, title)
        names = list(chance)[::-1]
        colors = [COLORS["poisoned"] if n == target else COLORS["honest"] for n in names]
        bottom.barh(names, [100 * chance[n] for n in names], color=colors)
        bottom.set_yticks(range(len(names)), [wrap(n, 18) for n in names], fontsize="small")
        bottom.set_xlim(0, 100)
        bottom.set_xlabel("probability (%)")
        bottom.grid(axis="y", visible=False)
    return figure
