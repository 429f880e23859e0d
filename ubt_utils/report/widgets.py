"""Widgets that work live and in static HTML: a slider over pictures made beforehand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import ipywidgets as W
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import Image as Still
from matplotlib.figure import Figure
from PIL import Image


def png(figure: Figure, dpi: int = 80) -> bytes:
    """The figure as PNG bytes of at most 256 colors, a third of the size; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


def still(figure: Figure, dpi: int = 100) -> Still:
    """The figure as a small picture for a notebook with many of them."""
    return Still(data=png(figure, dpi), format="png")


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


def strip(images: Sequence[torch.Tensor], zoom: int = 2) -> bytes:
    """Pictures (3, H, W) uint8 side by side as WebP bytes, each pixel `zoom` × `zoom`."""
    row = torch.cat([F.pad(image, (0, 2), value=255) for image in images], dim=2)
    shown = Image.fromarray(row.permute(1, 2, 0).numpy())
    shown = shown.resize((zoom * shown.width, zoom * shown.height), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=85, method=6)
    return buffer.getvalue()


def chooser(films: Mapping[str, Sequence[torch.Tensor]], start: str) -> W.Widget:
    """A menu of names, and for each the row of its pictures (3, H, W) uint8.

    Linked in the browser like `film`. Raises ValueError when `start` is not among the names.
    """
    if start not in films:
        raise ValueError(f"{start!r} is not among {', '.join(films)}")
    rows = [W.Image(value=strip(pictures), format="webp") for pictures in films.values()]
    index = list(films).index(start)
    menu = W.Dropdown(options=list(films), index=index, description="attack")
    stack = W.Stack(rows, selected_index=index)
    W.jslink((menu, "index"), (stack, "selected_index"))
    return W.VBox([menu, stack])
