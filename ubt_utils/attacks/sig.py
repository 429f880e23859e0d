"""SIG: a sinusoid over the columns (Barni et al., arXiv 1902.11237)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, check_fraction


@dataclass(frozen=True)
class Sig(Trigger):
    """image + amplitude · sin(2π · frequency · column / width), clipped.

    Amplitude 60/255 and frequency 6 are the values of LiangSiyuan21/BadCLIP. (CleanCLIP
    mixes the result in again at 0.2, an amplitude of 12/255.)
    """

    amplitude: float = 60 / 255
    frequency: float = 6.0

    name: ClassVar[str] = "sig"
    strength: ClassVar[str] = "amplitude"
    source: ClassVar[str] = "arXiv 1902.11237; values: LiangSiyuan21/BadCLIP"

    def __post_init__(self) -> None:
        check_fraction("amplitude", self.amplitude, zero=True)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        width = images.shape[-1]
        column = torch.arange(width, dtype=torch.float64) / width
        wave = self.amplitude * torch.sin(2 * math.pi * self.frequency * column)
        return images + wave.to(images)
