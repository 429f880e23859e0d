"""Augmentation: small seeded changes of pose and color, on a batch, on any device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

ROTATION = 15.0  # degrees
SCALE = 0.2
SHIFT = 0.1  # of the image side
COLOR = 0.25
MIX = 0.1  # of one color channel into another


def augment(images: torch.Tensor, draw: torch.Generator, pose: bool = True) -> torch.Tensor:
    """Tint each picture and, with `pose`, turn, scale and shift it: (B, 3, H, W) float [0, 1] → the same.

    The public model is pretrained with both. The victim changes colors only: D holds
    stamped pictures, and a change of pose would move the stamp away from its place.
    Evaluation never augments.
    """
    n = len(images)

    def uniform(*shape: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=draw) * 2 - 1).to(images)

    if pose:
        images = _move(images, uniform(n), uniform(n), uniform(n, 2))
    mix = torch.eye(3).to(images) + uniform(n, 3, 3) * MIX
    mixed = torch.einsum("nij,njhw->nihw", mix, images)
    gain, offset = 1 + uniform(n, 3, 1, 1) * COLOR, uniform(n, 3, 1, 1) * COLOR / 2
    return (mixed * gain + offset).clamp(0, 1)


def _move(images: torch.Tensor, turn: torch.Tensor, grow: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    angle, scale, shift = turn * math.radians(ROTATION), 1 + grow * SCALE, shift * 2 * SHIFT  # grid spans 2
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1)
    grid = F.affine_grid(rows.view(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
