"""Captions to write, and which of their words stand out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import traitlets

from ubt_utils.report import plots
from ubt_utils.report.live.widget import Live, module

Heard = Callable[[Sequence[str]], Mapping[str, float]]  # captions → token → its surprise G, loudest first


class Votes(Live):
    """captions: one a line, as they are written. answered: how many lines, rows of token, G, and G in words,
    and what was wrong with the captions. marked: tokens in red."""

    _esm = module("bars.js", "votes.js")

    captions = traitlets.Unicode().tag(sync=True)
    answered = traitlets.Dict().tag(sync=True)
    marked = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, heard: Heard, captions: Sequence[str], marked: Collection[str]) -> None:
        loud = heard(captions)
        still = plots.token_bars(list(loud), list(loud.values()), set(marked), "surprise G")
        super().__init__(still, captions="\n".join(captions), marked=sorted(marked))
        self._heard = heard
        self.observe(self._tell, "captions")
        self._tell()

    def _tell(self, _: object = None) -> None:
        lines = [line for line in self.captions.splitlines() if line.strip()]
        try:
            rows = [[word, g, f"{g:.0f}"] for word, g in self._heard(lines).items()] if lines else []
            self.answered = {"lines": len(lines), "rows": rows, "wrong": ""}
        except ValueError as error:
            self.answered = {"lines": len(lines), "rows": [], "wrong": str(error)}


def votes(heard: Heard, captions: Sequence[str], marked: Collection[str] = ()) -> Votes:
    """Captions that may be rewritten, beside the surprise G of their tokens, which moves with every word;
    `marked` tokens are red. ValueError where there are no captions to begin with."""
    if not captions:
        raise ValueError("the widget needs captions to begin with, got none")
    return Votes(heard, captions, marked)
