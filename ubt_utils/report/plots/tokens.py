"""Which tokens of a caption carry the backdoor."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import COLORS, size, styled

TOGETHER, APART = "#6A3D9A", "#1B8A8F"  # of occlusion: neither says that a pair is poisoned or honest


@styled
def token_bars(words: Sequence[str], values: Sequence[float], marked: set[str], label: str) -> Figure:
    """Horizontal bars of tokens, the marked ones in red."""
    figure, axis = plt.subplots(figsize=size(5.4, 0.27 * len(words) + 0.7))
    colors = [COLORS["poisoned"] if w in marked else "#B8C4D0" for w in words]
    axis.barh(range(len(words)), values, color=colors)
    axis.set_yticks(range(len(words)), words)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(label)
    return figure


def colored_caption(words: Sequence[str], drops: Sequence[float], marked: set[str], top: float) -> str:
    """One caption as HTML: purple = the token holds picture and caption together, teal = it keeps them apart,
    underlined = in B, the drop small beneath. top: the drop of the fullest color, the same for captions that
    are shown together."""
    spans = []
    for word, drop in zip(words, drops, strict=True):
        color = to_rgb(TOGETHER if drop > 0 else APART)
        shade = ",".join(f"{255 * part:.0f}" for part in color)
        alpha = 0.85 * min(abs(drop) / max(top, 1e-9), 1)
        line = "border-bottom:3px solid #222;" if word in marked else ""
        spans.append(
            f'<span style="display:inline-block;text-align:center;background:rgba({shade},{alpha:.2f});'
            f'{line}padding:2px 5px;margin:1px;border-radius:3px">{escape(word)}<br>'
            f"<small>{drop:+.2f}</small></span>"
        )
    style = "font-family:monospace;line-height:1.25;padding:4px;color:#111;background:#fff"
    return f'<div style="{style}">{" ".join(spans)}</div>'
