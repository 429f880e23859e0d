"""Which tokens of a caption carry the backdoor."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ubt_utils.report.plots.style import COLORS, styled


@styled
def token_bars(words: Sequence[str], values: Sequence[float], marked: set[str], label: str) -> Figure:
    """Horizontal bars of tokens, the marked ones in red."""
    figure, axis = plt.subplots(figsize=(5.4, 0.27 * len(words) + 0.7))
    colors = [COLORS["poisoned"] if w in marked else "#B8C4D0" for w in words]
    axis.barh(range(len(words)), values, color=colors)
    axis.set_yticks(range(len(words)), words)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(label)
    return figure


def colored_caption(words: Sequence[str], drops: Sequence[float], marked: set[str], most: float = 0) -> str:
    """One caption as HTML: red = the token holds picture and caption together, underlined = in B. most: the
    drop that is full red, one for several captions; 0: the caption's own largest."""
    top = most or max([abs(d) for d in drops] + [1e-9])
    spans = []
    for word, drop in zip(words, drops, strict=True):
        red, alpha = ("193,39,45" if drop > 0 else "59,111,160"), 0.85 * min(1, abs(drop) / top)
        line = "border-bottom:3px solid #222;" if word in marked else ""
        spans.append(
            f'<span title="{drop:+.3f}" style="background:rgba({red},{alpha:.2f});{line}'
            f'padding:2px 5px;margin:1px;border-radius:3px">{escape(word)}</span>'
        )
    style = "font-family:monospace;line-height:2.1;color:#111;background:#fff"
    return f'<div style="{style}">{" ".join(spans)}</div>'
