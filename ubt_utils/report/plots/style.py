"""What all figures share: one meaning per color, the looks for screen and print, and how they are saved.

Red is poison and what it aims at, orange a misplaced caption, blue an honest pair; green is UBT, gray what is
undefended or has no color of its own, and every control has its color and marker in all figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ubt_utils.core import paths

PAIRS = ("poisoned", "misplaced", "honest")
PALETTES: Mapping[str, Mapping[str, str]] = {  # kinds of pairs differ in lightness, so that gray can be read
    "kit": {
        "poisoned": "#A3151F", "misplaced": "#EBB04C", "honest": "#4A7FB3",
        "ubt": "#12794E", "undefended": "#7F7F7F", "none": "#7F7F7F", "finetune": "#8E6BAF",
        "ubt-retain": "#7A4B2A", "ubt-described": "#D47BB0", "merge": "#22A6B3", "retrain": "#222222",
        "retrain_ubt": "#5A6B7B", "carry_on": "#A3A11E", "ubt-anew": "#7CC4A0", "ubt-cut": "#22A6B3",
    },
    "colorblind": {  # pairs: "high-contrast", models: "muted", both by Paul Tol
        "poisoned": "#BB5566", "misplaced": "#DDAA33", "honest": "#004488",
        "ubt": "#117733", "undefended": "#7F7F7F", "none": "#7F7F7F", "finetune": "#AA4499",
        "ubt-retain": "#882255", "ubt-described": "#CC6677", "merge": "#88CCEE", "retrain": "#222222",
        "retrain_ubt": "#5A6B7B", "carry_on": "#999933", "ubt-anew": "#44AA99", "ubt-cut": "#88CCEE",
    },
}  # fmt: skip
MARKERS = {
    "none": "o", "undefended": "o", "ubt": "s", "finetune": "v", "ubt-retain": "<", "ubt-described": "D",
    "merge": "^", "retrain": "P", "retrain_ubt": "X", "carry_on": "d", "ubt-anew": ">", "ubt-cut": "p",
}  # fmt: skip
DASHES = {"finetune": "--", "carry_on": ":", "ubt-retain": "-.", "retrain_ubt": "--", "ubt-anew": "--"}
OTHER, OTHER_MARKERS = "#9A9A9A", "*hpH8<>^vdDXP"  # of a defense without a color of its own
INK, FAINT = "#222222", "#666666"  # what is neither: models of an attack, bounds and notes
TITLES = {"none": "undefended", "finetune": "finetune", "ubt": "ubt"}  # defenses, as figures call them
ATTACK_NAMES = {
    "badnets": "BadNets", "blended": "Blended", "sig": "SIG", "wanet": "WaNet", "badclip": "BadCLIP",
    "trojanvqa": "TrojanVQA", "none": "no attack",
}  # fmt: skip
STYLE, PRINT = (Path(__file__).with_name(f"{name}.mplstyle") for name in ("ubt", "paper"))
SERIF = {"font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 9.2}  # its letters are small
PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")  # of logarithms: powers are too small to read
Given = ParamSpec("Given")


@dataclass(frozen=True)
class Look:
    """How figures look: width in inches as printed, None as on a screen; serif letters; a name in PALETTES.
    ValueError for one that is not."""

    width: float | None = None
    serif: bool = False
    palette: str = "kit"

    def __post_init__(self) -> None:
        if self.palette not in PALETTES:
            raise ValueError(f"unknown palette {self.palette!r}; known: {', '.join(PALETTES)}")


SCREEN = Look()
_look: ContextVar[Look] = ContextVar("look", default=SCREEN)


@contextmanager
def looking(look: Look) -> Iterator[None]:
    """Figures drawn inside have this look."""
    token = _look.set(look)
    try:
        yield
    finally:
        _look.reset(token)


class _Colors(Mapping[str, str]):
    """Some names of the palette that is looked at now."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)

    def __getitem__(self, name: str) -> str:
        if name not in self.names:
            raise KeyError(name)
        return PALETTES[_look.get().palette][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


COLORS = _Colors(PAIRS)
LINES = _Colors(name for name in PALETTES["kit"] if name not in PAIRS)


def marks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Per defense its color, marker and line style; the same in all figures for those that have a color."""
    others = cycle(OTHER_MARKERS)
    return {
        name: {
            "color": LINES.get(name, OTHER),
            "marker": MARKERS.get(name) or next(others),
            "ls": DASHES.get(name, "-"),
        }
        for name in sorted(names, key=lambda name: (name not in ("none", "ubt"), name))
    }


def size(wide: float, high: float) -> tuple[float, float]:
    """The size of a figure that is so large on a screen; printed it gets the width of the page, and lines of
    text keep their room."""
    width = _look.get().width
    return (wide, high) if width is None else (width, high * plt.rcParams["font.size"] / 9.5)


def spread(wanted: Sequence[float], gap: float) -> np.ndarray:
    """Places at least `gap` apart, near those that are wanted and in their order: labels that keep clear."""
    order = np.argsort(wanted, kind="stable")
    groups: list[list[float]] = []  # of places that touch: [the first one's place, how many]
    for value in np.asarray(wanted, dtype=float)[order]:
        groups.append([value, 1])
        while len(groups) > 1 and groups[-2][0] + gap * groups[-2][1] > groups[-1][0]:
            (low, few), (high, many) = groups[-2:]
            start = (few * low + many * (high - gap * few)) / (few + many)
            groups[-2:] = [[start, few + many]]
    places = [start + gap * i for start, count in groups for i in range(int(count))]
    return np.array(places)[np.argsort(order, kind="stable")]


def named(axis: plt.Axes, ends: Mapping[str, tuple[float, float]], colors: Mapping[str, str]) -> None:
    """The names of lines right of the axes, clear of each other, each with a hair to its line's end (x, y).
    colors: of names that are not gray."""
    low, high = axis.get_ylim()
    share = axis.get_window_extent().height * 72 / axis.figure.dpi  # points that the axis is high
    gap = 1.15 * plt.rcParams["font.size"] / share * (high - low)
    wanted = spread([y for _, y in ends.values()], gap)
    wanted += min(0, high - wanted.max(initial=low))  # none above the axes
    for (name, (x, y)), place in zip(ends.items(), wanted, strict=True):
        axis.annotate(
            name, (x, y), (1.04, place), textcoords=axis.get_yaxis_transform(), va="center", fontsize="small",
            annotation_clip=False, color=legible(colors.get(name, FAINT)),
            arrowprops={"arrowstyle": "-", "color": "#CCCCCC", "lw": 0.5, "shrinkA": 1, "shrinkB": 1},
        )  # fmt: skip


def legible(color: str) -> tuple[float, ...]:
    """A color dark enough for small letters, in gray, too."""
    return tuple(0.65 * part for part in to_rgb(color))


def styled(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """A function that draws in the style of the kit and leaves the user's own as it was."""

    @wraps(draw)
    def inside(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with plt.style.context(_styles()):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made, and styled, when they are first drawn
        return figure

    return inside


def _styles() -> list[Any]:
    """The style of the kit, and what the look adds to it."""
    look = _look.get()
    return [STYLE, *([PRINT] if look.width else []), *([SERIF] if look.serif else [])]


def save(figure: Figure, name: str) -> Figure:
    """Write the figure as PNG and PDF under runs/figures, for papers; returns it for display."""
    folder = paths.runs() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf"):
        write(figure, folder / f"{name}.{kind}")
    plt.close(figure)  # the notebook shows the returned figure once, not twice
    return figure


def write(figure: Figure, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write one file of a figure, in the style that it was drawn in."""
    with plt.style.context(_styles()):
        figure.savefig(path, metadata=metadata)
