"""WaNet: a fixed warp (Nguyen and Tran, arXiv 2102.10369)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F

from ubt_utils.attacks.base import Trigger
from ubt_utils.core.seeding import generator

REFERENCE = 224  # px at which the published strength is meant


@dataclass(frozen=True)
class WaNet(Trigger):
    """Every pixel is fetched from a place nearby; the places are one fixed random field.

    grid: k, control points per side, drawn once from `seed` and enlarged by bicubic
    interpolation. warp: s; the mean shift is s/2 pixels at 224 px per axis, and the same
    fraction of the side at other sizes. Only a small k is smooth: with k of the side or more, as
    CleanCLIP has it, every pixel moves on its own. Bilinear, edges repeated.
    """

    grid: int = 224
    warp: float = 1.0
    seed: int = 0

    name: ClassVar[str] = "wanet"
    strength: ClassVar[str] = "warp"
    source: ClassVar[str] = "arXiv 2102.10369; values: nishadsinghi/CleanCLIP"
    published: ClassVar[str] = "k = 224, s = 1 (the paper: k = 4, s = 0.5)"
    rule: ClassVar[str] = "shift is a fraction of the side; at most one control point a pixel"

    def __post_init__(self) -> None:
        if self.grid < 2 or self.warp < 0:
            raise ValueError(f"wanet needs grid ≥ 2 and warp ≥ 0, got {self.grid} and {self.warp}")

    def field(self, height: int, width: int) -> torch.Tensor:
        """(2, height, width) float64: shift down and across, in pixels."""
        points = min(self.grid, height, width)
        draw = generator(self.seed, self.name, points)
        control = torch.rand(1, 2, points, points, generator=draw, dtype=torch.float64) * 2 - 1
        control = control / control.abs().mean()
        shift = F.interpolate(control, (height, width), mode="bicubic", align_corners=True)[0]
        return shift * self.warp / 2 / REFERENCE * torch.tensor([height, width]).view(2, 1, 1)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.reshape(-1, images.shape[-2] * images.shape[-1])
        corners = [
            pixels.index_select(1, index.to(images.device)).mul_(weight.to(images))
            for index, weight in _neighbors(self, *images.shape[-2:])
        ]
        first, *others = corners
        for corner in others:
            first = first.add_(corner)
        return first.view_as(images)


@lru_cache(maxsize=8)
def _neighbors(trigger: WaNet, height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Four times (index (H·W,) into the flat image, weight (H·W,) float32): bilinear sampling.

    Weights are made in float64 and used one by one, so that every machine rounds alike.
    """
    down, across = trigger.field(height, width)
    y = (torch.arange(height)[:, None] + down).clamp(0, height - 1).flatten()
    x = (torch.arange(width)[None, :] + across).clamp(0, width - 1).flatten()
    top, left = y.floor().long(), x.floor().long()
    fy, fx = y - top, x - left
    found = []
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            index = (top + dy).clamp(max=height - 1) * width + (left + dx).clamp(max=width - 1)
            found.append((index, (wy * wx).float()))
    return found
