"""Widgets that work live and in static HTML: a slider over pictures made beforehand."""

from __future__ import annotations

import io
from collections.abc import Sequence

import ipywidgets as W
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def png(figure: Figure, dpi: int = 80) -> bytes:
    """The figure as PNG bytes; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    return buffer.getvalue()


def film(frames: Sequence[Figure], label: str, start: int = 0) -> W.Widget:
    """A slider that shows one of the frames.

    The link runs in the browser (jslink), so the widget needs no kernel and cannot hang a
    headless run. Raises ValueError when there are no frames.
    """
    if not frames:
        raise ValueError("a film needs at least one frame")
    stack = W.Stack([W.Image(value=png(f), format="png") for f in frames], selected_index=start)
    slider = W.IntSlider(
        value=start, min=0, max=len(frames) - 1, description=label, readout=False,
        style={"description_width": "initial"}, layout=W.Layout(width="420px"),
    )  # fmt: skip
    W.jslink((slider, "value"), (stack, "selected_index"))
    return W.VBox([slider, stack])
