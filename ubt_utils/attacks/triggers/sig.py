"""SIG: a sinusoid over the columns (Barni et al., arXiv 1902.11237)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import CHUNK, Trigger, check_fraction


@dataclass(frozen=True)
class Wave(Trigger):
    """amplitude · sin(2π · frequency · column / width); subclasses say how it meets the picture."""

    amplitude: float = 60 / 255
    frequency: float = 6.0

    rule: ClassVar[str] = "waves per image kept"

    def __post_init__(self) -> None:
        check_fraction("amplitude", self.amplitude, zero=True)

    def wave(self, width: int) -> torch.Tensor:
        """(width,) float64: what is added to each column."""
        column = torch.arange(width, dtype=torch.float64) / width
        return self.amplitude * torch.sin(2 * math.pi * self.frequency * column)


@dataclass(frozen=True)
class Sig(Wave):
    """image + wave, clipped."""

    name: ClassVar[str] = "sig"
    strength: ClassVar[str] = "amplitude"
    source: ClassVar[str] = "arXiv 1902.11237; values: LiangSiyuan21/BadCLIP"
    published: ClassVar[str] = "amplitude 60/255, frequency 6"

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.wave(images.shape[-1]).to(images)

    def stamp_into(self, out: torch.Tensor, images: torch.Tensor) -> None:
        step = (self.wave(images.shape[-1]) * 255).round().long()  # a byte plus a whole step is a byte
        low, high = (-step).clamp(0, 255), (255 - step).clamp(0, 255)
        low, high, step = (t.to(images.device, torch.uint8) for t in (low, high, step % 256))
        for here, part in zip(out.split(CHUNK), images.split(CHUNK), strict=True):
            torch.clamp(part, low, high, out=here).add_(step)  # in range first, so that nothing wraps


@dataclass(frozen=True)
class SigCleanClip(Wave):
    """(1 − alpha) · image + alpha · wave: CleanCLIP mixes the wave as it mixes noise.

    That leaves an amplitude of 12/255 at alpha 0.2, and an image one fifth darker, which may
    be the stronger part of the trigger.
    """

    alpha: float = 0.2

    name: ClassVar[str] = "sig_cleanclip"
    strength: ClassVar[str] = "alpha"
    source: ClassVar[str] = "nishadsinghi/CleanCLIP"
    published: ClassVar[str] = "amplitude 60/255, frequency 6, mixed at 0.2"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("alpha", self.alpha, zero=True)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        wave = self.wave(images.shape[-1]).to(images)
        return (1 - self.alpha) * images + self.alpha * wave
