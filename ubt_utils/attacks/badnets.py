"""BadNets: a small fixed patch (Gu et al., arXiv 1708.06733)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, check_fraction


@dataclass(frozen=True)
class BadNets(Trigger):
    """A black-and-white checkerboard in the bottom right corner.

    size: side of the patch, as a fraction of the image side. cells: squares per side.
    margin: distance from the two edges, same unit as size. The checker pattern is that
    of Detect-CLIP-Backdoor-Samples; the fixed place and the size are ours.
    """

    size: float = 0.25
    cells: int = 4
    margin: float = 0.02

    name: ClassVar[str] = "badnets"
    strength: ClassVar[str] = "size"
    source: ClassVar[str] = "arXiv 1708.06733; pattern: HanxunH/Detect-CLIP-Backdoor-Samples"

    def __post_init__(self) -> None:
        check_fraction("patch size", self.size)
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1, got {self.cells}")
        if self.margin < 0 or self.size + self.margin > 1:
            raise ValueError(f"patch {self.size} with margin {self.margin} is larger than the image")

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in pixels of the patch on an image of that size."""
        side = max(1, round(self.size * min(height, width)))
        gap = min(round(self.margin * min(height, width)), min(height, width) - side)
        return height - gap - side, width - gap - side, height - gap, width - gap

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        top, left, bottom, right = self.box(*images.shape[-2:])
        side = bottom - top
        cell = torch.arange(side, device=images.device) * min(self.cells, side) // side
        checker = (cell[:, None] + cell[None, :]) % 2
        out = images.clone()
        out[:, :, top:bottom, left:right] = checker.to(images.dtype)
        return out
