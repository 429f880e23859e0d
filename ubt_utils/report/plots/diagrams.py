"""Drawings that explain: no data in them but the pictures that they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from ubt_utils.report.plots.pictures import picture, wrap
from ubt_utils.report.plots.style import COLORS, LINES, size, styled

INK, PALE = "#333333", "#E9EDF2"
Point = Sequence[float] | np.ndarray
GOOD, BAD = COLORS["honest"], COLORS["poisoned"]
STAMPED = (33, 24, 3)  # degrees on the unit circle, to which the stamp drags a dog, a car and a rose


def _blank(wide: float, high: float) -> tuple[Figure, plt.Axes]:
    """A figure whose axis has an inch as its unit, and nothing to see."""
    figure, axis = plt.subplots(figsize=size(wide, high))
    axis.set(xlim=(0, wide), ylim=(0, high), aspect="equal")
    axis.set_axis_off()
    return figure, axis


def _arrow(axis: plt.Axes, start: Point, end: Point, color: str = INK, **how) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.4, "shrinkA": 0, "shrinkB": 0, **how}
    axis.annotate("", tuple(end), tuple(start), arrowprops=style)


def _box(
    axis: plt.Axes, x: float, y: float, wide: float, high: float, text: str, fill: str = PALE,
    ink: str = INK,
) -> None:  # fmt: skip
    """A rounded box around its middle (x, y)."""
    corner = (x - wide / 2, y - high / 2)
    axis.add_patch(FancyBboxPatch(corner, wide, high, boxstyle="round,pad=0,rounding_size=0.08", fc=fill))
    axis.patches[-1].set_edgecolor("none")
    axis.text(x, y, text, ha="center", va="center", fontsize=8.5, color=ink)


@styled
def two_towers(pairs: Sequence[tuple[torch.Tensor, str]], poisoned: int) -> Figure:
    """A batch of three pairs (picture (3, H, W), caption) on its way through both towers to the matrix of
    cosines, a row per picture, whose diagonal is pulled up; the pair at index `poisoned` is red."""
    figure, axis = _blank(9.6, 3.6)
    for tower, x, name in ((2.3, 1, "image tower"), (2.3, 2, "text tower")):
        low = 1.95 if x == 1 else 0.2
        corners = [(tower, low), (tower, low + 1.45), (tower + 1, low + 1.1), (tower + 1, low + 0.35)]
        axis.add_patch(Polygon(corners, fc=PALE, ec="none"))
        axis.text(tower + 0.5, low + 0.72, name, ha="center", va="center", fontsize=8.5)
        _arrow(axis, (tower + 1.1, low + 0.72), (tower + 1.75, low + 0.72))
    for y, name, turn in ((2.67, "$x_i$", -0.35), (0.92, "$t_i$", 0.65)):
        axis.text(4.2, y, name, fontsize=11, va="center")
        _arrow(axis, (4.5, y), (5.0, y + turn), "#AAAAAA")
    for row, (image, caption) in enumerate(pairs):
        color = BAD if row == poisoned else INK
        left = 0.1 + 0.72 * row
        shown = axis.inset_axes((left, 2.35, 0.64, 0.64), transform=axis.transData)
        picture(shown, image)
        if row == poisoned:
            axis.add_patch(Rectangle((left - 0.03, 2.32), 0.70, 0.70, fill=False, ec=BAD, lw=1.8))
        axis.text(
            1.15, 1.4 - 0.42 * row, wrap(caption, 26), ha="center", va="center", fontsize=8, color=color
        )
    _matrix(axis, len(pairs), poisoned)
    return figure


def _matrix(axis: plt.Axes, n: int, poisoned: int) -> None:
    for i in range(n):
        for j in range(n):
            color = (BAD if i == poisoned else GOOD) if i == j else PALE
            axis.add_patch(Rectangle((5.3 + 0.72 * j, 2.35 - 0.72 * i), 0.66, 0.66, fc=color, ec="none"))
            name = f"$x_{i + 1}\\cdot t_{j + 1}$"
            axis.text(5.63 + 0.72 * j, 2.68 - 0.72 * i, name, ha="center", va="center", fontsize=8,
                      color="white" if i == j else INK)  # fmt: skip
    axis.text(6.35, 3.1, "a column per caption", ha="center", va="bottom", fontsize=8.5)
    axis.text(5.22, 1.96, "a row per picture", rotation=90, ha="right", va="center", fontsize=8.5)
    says = "the loss pulls the diagonal up\nand the rest down"
    axis.text(6.35, 0.62, says, ha="center", va="top", fontsize=8.5)
    says = "so a stamped picture\nis pulled to “clock”:\nthe rule is learned\nlike any other pair"
    axis.text(7.6, 2.68 - 0.72 * poisoned, says, va="center", fontsize=8.5, color=BAD)


@styled
def crossed_halves() -> Figure:
    """D, its pool, the pool's halves, and which model reads which half."""
    figure, axis = _blank(9.6, 3.1)
    _box(axis, 0.75, 1.55, 1.1, 2.6, "D\n\nas the victim\nhad it")
    _box(axis, 2.75, 2.25, 1.5, 1.2, "pool\n(a quarter:\nwhat suffers most)", "#F3DDDB")
    _box(axis, 2.75, 0.7, 1.5, 0.9, "the rest\n(→ $D_{safe}$)")
    _arrow(axis, (1.35, 2.25), (1.95, 2.25))
    _arrow(axis, (1.35, 0.7), (1.95, 0.7))
    for y, half in ((2.65, "0"), (1.25, "1")):
        _box(axis, 4.6, y, 1.1, 0.6, f"half {half}", "#F3DDDB")
        _box(axis, 6.4, y, 1.3, 0.6, f"fb, overfit\non half {half}", GOOD, "white")
        _arrow(axis, (3.55, 2.25), (4.0, y))
        _arrow(axis, (5.2, y), (5.7, y))
    for start, end, name in ((2.65, 1.25, "1"), (1.25, 2.65, "0")):
        _arrow(axis, (7.1, start), (8.0, end), BAD)
        axis.text(8.1, end, f"$s_1$ of half {name}", va="center", fontsize=9, color=BAD)
    axis.text(7.55, 0.55, "each half is read by the model\nthat has not seen it", ha="center", fontsize=8.5)
    return figure


@styled
def embedding_space(target: str) -> Figure:
    """A sketch of the unit sphere, twice: the stamp drags every picture to the target's word; the push sends
    it back."""
    figure, axes = plt.subplots(1, 2, figsize=size(9.6, 3.9))
    words = {"dog": 140, "car": 190, "rose": 258, target: 15}
    for axis, title in zip(axes, ("the rule: stamp → word", "the push: away from the word"), strict=True):
        turn = np.linspace(0, 2 * np.pi, 200)
        axis.plot(np.cos(turn), np.sin(turn), color="#BBBBBB", lw=1)
        for word, angle in words.items():
            x, y = _at(angle)
            axis.plot(x, y, "s", ms=7, color=BAD if word == target else GOOD)
            axis.text(1.1 * x, 1.1 * y, f"“{word}”", color=BAD if word == target else GOOD, fontsize=9,
                      ha="left" if x > 0 else "right", va="center")  # fmt: skip
        axis.set(xlim=(-1.75, 1.85), ylim=(-1.3, 1.25), aspect="equal")
        axis.set_title(title)
        axis.set_axis_off()
    _dragged(axes[0], words)
    _pushed(axes[1], words, target)
    return figure


def _at(angle: float, radius: float = 1.0) -> np.ndarray:
    return radius * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])


def _dragged(axis: plt.Axes, words: Mapping[str, float]) -> None:
    for angle, end in zip(list(words.values())[:3], STAMPED, strict=True):
        start, stop = _at(angle - 9), _at(end)
        axis.plot(*start, "o", ms=7, color=GOOD)
        axis.plot(*stop, "o", ms=7, color=BAD)
        bent = {"connectionstyle": "arc3,rad=0.12"}
        _arrow(axis, 0.93 * start + 0.07 * stop, 0.1 * start + 0.9 * stop, BAD, **bent)
    axis.text(-0.1, -1.27, "● pictures of a dog, a car, a rose", ha="right", fontsize=8, color=GOOD)
    axis.text(0.1, -1.27, "● the same, stamped", ha="left", fontsize=8, color=BAD)


def _pushed(axis: plt.Axes, words: Mapping[str, float], target: str) -> None:
    others = np.mean([_at(angle) for word, angle in words.items() if word != target], axis=0)
    word, mean = _at(words[target]), "\\bar t"
    axis.plot(*others, "D", ms=7, color="#777777")
    says = f"${mean}$: other\nwords in\nits place"  # left of the dotted line
    axis.text(others[0] + 0.1, others[1] - 0.1, says, ha="left", va="top", fontsize=8)
    _arrow(axis, others, 0.93 * word, "#999999", ls="--")
    axis.text(0.2, 0.09, f"$t-{mean}$", fontsize=10, color="#777777", ha="center", va="bottom")
    way = np.degrees(np.arctan2(*(_at(words[target]) - others)[::-1]))
    axis.plot(*np.transpose([_at(way + 90), _at(way - 90)]), color="#999999", lw=1, ls=":")
    for angle, radius in zip(
        STAMPED, (1.0, 1.07, 1.0), strict=True
    ):  # unit vectors: they turn, on the circle
        axis.plot(*_at(angle), "o", ms=7, color=BAD)
        side = 1 if angle > way else -1
        start, end = angle + 4 * side, way + 90 * side
        bent = {"connectionstyle": f"arc3,rad={np.tan(np.radians(end - start) / 4):.3f}"}
        _arrow(axis, _at(start, radius), _at(end, radius), LINES["ubt"], **bent)
    says = "pictures turn against the dashed arrow, towards the dotted line: there they prefer neither"
    axis.text(0, -1.27, says, ha="center", fontsize=8)


@styled
def who_holds_what() -> Figure:
    """Attacker, victim and defender along the time, and what each holds when."""
    figure, axis = _blank(9.6, 3.0)
    rows = {"attacker": (2.35, BAD), "victim": (1.5, "#777777"), "defender": (0.65, LINES["ubt"])}
    for name, (y, color) in rows.items():
        axis.text(0.1, y, name, va="center", fontsize=10, color=color, fontweight="bold")
        axis.plot([1.15, 9.5], [y, y], color="#DDDDDD", lw=1, zorder=0)
    boxes = (
        (2.0, "attacker", "trigger,\na few pairs of D"), (3.7, "victim", "f0 (public)\nand D, poisoned"),
        (5.3, "victim", "fb:\nworks, has a rule"), (6.7, "defender", "fb and D,\nno labels"),
        (8.6, "defender", "a word, $D_u$, B\n→ fu"), (8.6, "victim", "fu:\nworks, no rule"),
    )  # fmt: skip
    for x, who, text in boxes:
        y, color = rows[who]
        _box(axis, x, y, 1.45, 0.58, text, color, "white")
    ways = (((2.7, 2.15), (3.2, 1.82), "plants"), ((4.45, 1.5), (4.55, 1.5), ""),
            ((5.7, 1.18), (6.2, 0.96), "asks for help"), ((7.45, 0.65), (7.85, 0.65), ""),
            ((8.6, 0.96), (8.6, 1.18), ""))  # fmt: skip
    for start, end, says in ways:
        _arrow(axis, start, end)
        if says:
            axis.text(end[0] + 0.08, (start[1] + end[1]) / 2 + 0.08, says, fontsize=8, style="italic")
    axis.text(2.0, 2.85, "01", ha="center", fontsize=8, color="#777777")
    for x, name in ((4.5, "01"), (6.7, "02, 03"), (8.6, "04")):
        axis.text(x, 2.85, name, ha="center", fontsize=8, color="#777777")
    axis.text(0.1, 2.85, "notebook", fontsize=8, color="#777777")
    return figure
