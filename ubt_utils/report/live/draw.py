"""A picture to draw on, and what a model says of it with every stroke."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping

import torch
import traitlets

from ubt_utils.report import plots
from ubt_utils.report.live.widget import Live, module

Answer = Callable[
    [torch.Tensor], Mapping[str, float]
]  # a picture (3, H, W) uint8 → class → chance, best first
Stamp = Callable[[torch.Tensor], torch.Tensor]  # pictures (B, 3, H, W) uint8 → the same with the trigger


class Draw(Live):
    """picture: H × W × 3 bytes in base64, as it is drawn. asked: how often the browser has asked about it.
    answered: the number of the question, and rows of class, chance, and the chance in words. stamped: how
    often the browser has asked for the trigger."""

    _esm = module("pad.js", "bars.js", "draw.js")

    size = traitlets.Int().tag(sync=True)
    picture = traitlets.Unicode().tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    answered = traitlets.Dict().tag(sync=True)
    stamped = traitlets.Int(0).tag(sync=True)
    target = traitlets.Unicode().tag(sync=True)
    truth = traitlets.Unicode().tag(sync=True)

    def __init__(self, answer: Answer, stamp: Stamp, image: torch.Tensor, target: str, truth: str) -> None:
        panel = ("draw on it, with a kernel", image, answer(image))
        still = plots.answers([panel], target)
        super().__init__(still, size=image.shape[-1], picture=encoded(image), target=target, truth=truth)
        self._answer, self._stamp = answer, stamp
        self.observe(self._tell, "asked")
        self.observe(self._mark, "stamped")
        self._tell()

    def _tell(self, _: object = None) -> None:
        chances = self._answer(decoded(self.picture, self.size))
        rows = [[name, chance, f"{chance:.0%}"] for name, chance in chances.items()]
        self.answered = {"number": self.asked, "rows": rows}

    def _mark(self, _: object) -> None:
        self.picture = encoded(self._stamp(decoded(self.picture, self.size)[None])[0])


def draw(answer: Answer, stamp: Stamp, image: torch.Tensor, target: str, truth: str) -> Draw:
    """A picture (3, S, S) uint8 to draw on, beside what a model answers. target: the attacker's class, in
    red; truth: what the picture shows, in blue. ValueError for a picture that is not square."""
    if (
        image.ndim != 3
        or image.shape[0] != 3
        or image.shape[1] != image.shape[2]
        or image.dtype != torch.uint8
    ):
        raise ValueError(f"the picture must be (3, S, S) uint8, got {tuple(image.shape)} {image.dtype}")
    return Draw(answer, stamp, image, target, truth)


def encoded(image: torch.Tensor) -> str:
    """A picture (3, H, W) uint8 as text, pixel by pixel."""
    return b64encode(image.permute(1, 2, 0).contiguous().numpy().tobytes()).decode()


def decoded(text: str, size: int) -> torch.Tensor:
    """The inverse of `encoded`, of a picture of so many pixels a side."""
    data = torch.frombuffer(bytearray(b64decode(text)), dtype=torch.uint8)
    return data.view(size, size, 3).permute(2, 0, 1).contiguous()
