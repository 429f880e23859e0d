"""Widgets that work live and in static HTML: a slider over pictures made beforehand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import ipywidgets as W
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image


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


def tile(image: torch.Tensor, zoom: int = 4) -> bytes:
    """A picture (3, H, W) uint8 as PNG bytes, each pixel `zoom` × `zoom`."""
    shown = Image.fromarray(image.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    shown.resize((zoom * shown.width, zoom * shown.height), Image.Resampling.NEAREST).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def chooser(films: Mapping[str, Mapping[str, torch.Tensor]], start: str) -> W.Widget:
    """A menu of names, and for each a row of its pictures (3, H, W) uint8 with their labels.

    Linked in the browser like `film`. Raises ValueError when `start` is not among the names.
    """
    if start not in films:
        raise ValueError(f"{start!r} is not among {', '.join(films)}")
    rows = [
        W.HBox(
            [
                W.VBox(
                    [W.Image(value=tile(image), format="png", layout=W.Layout(width="190px")), W.Label(label)]
                )
                for label, image in pictures.items()
            ]
        )
        for pictures in films.values()
    ]
    index = list(films).index(start)
    menu = W.Dropdown(options=list(films), index=index, description="attack")
    stack = W.Stack(rows, selected_index=index)
    W.jslink((menu, "index"), (stack, "selected_index"))
    return W.VBox([menu, stack])
