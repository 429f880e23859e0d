"""Blended: one fixed noise picture mixed into the whole image (Chen et al., arXiv 1712.05526)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, check_fraction
from ubt_utils.seeding import generator


@dataclass(frozen=True)
class Blended(Trigger):
    """(1 − alpha) · image + alpha · pattern, with a uniform noise pattern drawn once from `seed`.

    CleanCLIP uses alpha 0.2 and redraws the noise at each call, so that no image shares
    its trigger with another; here the pattern is fixed for a given image size.
    """

    alpha: float = 0.2
    seed: int = 0

    name: ClassVar[str] = "blended"
    strength: ClassVar[str] = "alpha"
    source: ClassVar[str] = "arXiv 1712.05526; noise pattern: nishadsinghi/CleanCLIP"

    def __post_init__(self) -> None:
        check_fraction("alpha", self.alpha, zero=True)

    def pattern(self, height: int, width: int) -> torch.Tensor:
        """The noise picture, (3, height, width) in [0, 1], whole bytes."""
        draw = generator(self.seed, "blended pattern", height, width)
        return torch.randint(0, 256, (3, height, width), generator=draw) / 255

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        pattern = self.pattern(*images.shape[-2:]).to(images)
        return (1 - self.alpha) * images + self.alpha * pattern
