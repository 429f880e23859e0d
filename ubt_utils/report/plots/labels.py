"""Names of dots, each near its dot: clear of all dots, bars and other names. All lengths are points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke

from ubt_utils.report.plots.style import FAINT

RINGS = (7, 10, 15, 21, 28, 36, 46, 58, 72, 90)  # from the middle of a dot to its name
WAYS = np.radians((0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240))  # from a dot, the best first
RADIUS = 4.0  # of a dot
CLEAR = 6.5  # from the middle of a dot to the nearest name
LED = 12  # from here on a hair joins name and dot
DETOUR = 20  # so much further away may a name stand before its hair crosses a dot


@dataclass(frozen=True)
class Place:
    """A name's box (x0, y0, x1, y1), where its hair meets it (x, y), and whether there is one; side: that
    point as parts of the box."""

    box: np.ndarray
    tip: np.ndarray
    side: np.ndarray
    led: bool

    def hair(self, at: np.ndarray) -> np.ndarray:
        """(24, 2) points of the hair from `at`."""
        return np.linspace(at, self.tip, 24)


@dataclass
class Room:
    """What names keep clear of. inside: the box that they stay in; dots (n, 2); bars: x of upright lines;
    names and hairs: what has its place already."""

    inside: np.ndarray
    dots: np.ndarray
    bars: Sequence[float] | np.ndarray = ()
    names: list[np.ndarray] = field(default_factory=list)
    hairs: list[np.ndarray] = field(default_factory=list)

    def place(self, at: np.ndarray, size: np.ndarray) -> Place | None:
        """The place nearest to the dot `at` where a name of that size (wide, high) is clear, which is then
        taken; None where there is none."""
        places = [_beside(at, size, ring, way) for ring in RINGS for way in WAYS]
        clear = [one for one in places if self._clear(one, at)]
        if not clear:
            return None
        best = min(clear, key=lambda one: float(np.hypot(*(one.tip - at))) + DETOUR * self._crossed(one, at))
        self.names.append(best.box)
        if best.led:
            self.hairs.append(best.hair(at))
        return best

    def _clear(self, one: Place, at: np.ndarray) -> bool:
        box = one.box
        if (box[:2] < self.inside[:2]).any() or (box[2:] > self.inside[2:]).any():
            return False
        if _within(self.dots, box, CLEAR) or any(_within(hair, box, 1) for hair in self.hairs):
            return False
        if any(box[0] - 2 < bar < box[2] + 2 for bar in self.bars) or any(_meet(box, b) for b in self.names):
            return False
        return not (one.led and any(_within(one.hair(at), other, 1) for other in self.names))

    def _crossed(self, one: Place, at: np.ndarray) -> int:
        """How many other dots the hair runs over."""
        if not one.led or not len(self.dots):
            return 0
        away = np.hypot(*(self.dots[:, None] - one.hair(at)).transpose(2, 0, 1)).min(1)
        return int(((away < RADIUS) & (np.hypot(*(self.dots - at).T) > 1)).sum())


def _beside(at: np.ndarray, size: np.ndarray, ring: float, way: float) -> Place:
    turn = np.array([np.cos(way), np.sin(way)])
    tip, side = at + ring * turn, np.clip(1.5 * turn, -1, 1) / 2
    middle = tip + side * size
    return Place(np.concatenate([middle - size / 2, middle + size / 2]), tip, 0.5 - side, ring >= LED)


def _within(points: np.ndarray, box: np.ndarray, room: float) -> bool:
    """Is one of the points (n, 2) nearer to the box than that?"""
    away = np.maximum(np.maximum(box[:2] - points, points - box[2:]), 0)
    return bool((np.hypot(*away.T) < room).any())


def _meet(one: np.ndarray, other: np.ndarray, room: float = 1.0) -> bool:
    return bool((one[:2] < other[2:] + room).all() and (other[:2] < one[2:] + room).all())


def name_dots(
    axis: plt.Axes,
    names: Mapping[str, tuple[float, float]],
    colors: Mapping[str, str],
    dots: Sequence[tuple[float, float]],
    bars: Sequence[float] = (),
) -> None:
    """Write names beside their dots (x, y), the first ones nearest, small and in their colors; a name that is
    clear nowhere is left out. dots: all of the axes, whose limits and place in the figure must be final;
    bars: x of upright lines."""

    def points(data: Sequence[tuple[float, float]]) -> np.ndarray:
        return axis.transData.transform(np.reshape(data, (-1, 2))) * 72 / axis.figure.dpi

    across = points([(bar, axis.get_ylim()[0]) for bar in bars])[:, 0]
    inside = np.asarray(axis.bbox.extents) * 72 / axis.figure.dpi
    room = Room(inside, points(dots), across)
    for name, at in names.items():
        (middle,) = points([at])
        if (place := room.place(middle, _size(axis, name))) is None:
            continue
        low, high = place.box[:2], place.box[2:]
        hair = {"arrowstyle": "-", "color": FAINT, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
        axis.annotate(
            name, at, (low + high) / 2 - middle, textcoords="offset points", ha="center", va="center",
            fontsize="small", color=colors[name], zorder=4,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            arrowprops=hair | {"relpos": tuple(place.side)} if place.led else None,
        )  # fmt: skip


def _size(axis: plt.Axes, name: str) -> np.ndarray:
    """How wide and high a name is written."""
    probe = axis.text(0.5, 0.5, name, fontsize="small", transform=axis.transAxes)
    box = probe.get_window_extent()
    probe.remove()
    return np.array([box.width, box.height]) * 72 / axis.figure.dpi
