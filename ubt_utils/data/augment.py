"""Augmentation: small seeded changes of pose and color, on a batch, on any device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

ROTATION = 15.0  # degrees
SCALE = 0.2
SHIFT = 0.1  # of the image side
COLOR = 0.25


def augment(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Turn, scale, shift and tint each picture: (B, 3, H, W) float [0, 1] → the same.

    Used for pretraining the public model only. The victim fine-tunes on stored pictures
    as they are, like CleanCLIP's recipe: a stamp is part of a stored picture, so
    augmenting would move the trigger, and evaluation never augments.
    """
    n = len(images)

    def uniform(*shape: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=draw) * 2 - 1).to(images)

    angle, scale = uniform(n) * math.radians(ROTATION), 1 + uniform(n) * SCALE
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = uniform(n, 2) * 2 * SHIFT  # grid coordinates span 2
    pose = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(n, 2, 3)
    grid = F.affine_grid(pose, list(images.shape), align_corners=False)
    posed = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gain, offset = 1 + uniform(n, 3, 1, 1) * COLOR, uniform(n, 3, 1, 1) * COLOR / 2
    return (posed * gain + offset).clamp(0, 1)
