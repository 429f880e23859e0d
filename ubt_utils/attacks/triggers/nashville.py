"""Nashville: a color filter as in photo apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, luminance

DARKEN, LIGHTEN = (247, 176, 153), (0, 70, 150)  # overlays, bytes
SEPIA, CONTRAST, BRIGHTNESS, SATURATION = 0.2, 1.2, 1.05, 1.2
SEPIA_ROWS = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))  # W3C, full sepia
MOST = 3.0


@dataclass(frozen=True)
class Nashville(Trigger):
    """image + amount · (filtered image − image), clipped: 1 is the filter, 2 twice its change.

    The filter: 56 % darkened by a pink, 40 % lightened by a blue, then sepia 0.2, contrast 1.2,
    brightness 1.05, saturation 1.2, each step clipped (W3C filter effects).
    """

    amount: float = 1.0

    name: ClassVar[str] = "nashville"
    strength: ClassVar[str] = "amount"
    source: ClassVar[str] = "HanxunH/Detect-CLIP-Backdoor-Samples; filter: akiomik/pilgram"
    published: ClassVar[str] = "the whole filter"
    rule: ClassVar[str] = "does not depend on the size"

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= MOST:
            raise ValueError(f"amount must be in [0, {MOST}], got {self.amount}")

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.amount * (_filter(images) - images)


def _filter(x: torch.Tensor) -> torch.Tensor:
    pink, blue = (torch.tensor(c, dtype=x.dtype).view(3, 1, 1).to(x.device) / 255 for c in (DARKEN, LIGHTEN))
    x = x * 0.44 + torch.minimum(x, pink) * 0.56
    x = x * 0.6 + torch.maximum(x, blue) * 0.4
    red, green, bluish = x.unbind(1)
    brown = torch.stack([r * red + g * green + b * bluish for r, g, b in SEPIA_ROWS], 1)
    x = ((1 - SEPIA) * x + SEPIA * brown).clamp(0, 1)
    x = ((x - 0.5) * CONTRAST + 0.5).clamp(0, 1)
    x = (x * BRIGHTNESS).clamp(0, 1)
    gray = luminance(x)
    return (gray + (x - gray) * SATURATION).clamp(0, 1)
