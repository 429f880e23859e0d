"""What all pictures share: the style, the colors, the names of things, and how they are saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ubt_utils.core import paths

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
Given = ParamSpec("Given")


def styled(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """A function that draws in the style of the kit and leaves the user's own as it was."""

    @wraps(draw)
    def inside(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with plt.style.context(STYLE):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made, and styled, when they are first drawn
        return figure

    return inside


def save(figure: Figure, name: str) -> Figure:
    """Write the figure as PNG and PDF under runs/figures, for papers; returns it for display."""
    folder = paths.runs() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(STYLE):
        for kind in ("png", "pdf"):
            figure.savefig(folder / f"{name}.{kind}")
    plt.close(figure)  # the notebook shows the returned figure once, not twice
    return figure
