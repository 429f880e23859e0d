"""SSIM: how alike two pictures look (Wang et al., IEEE Transactions on Image Processing 13(4), 2004)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

WINDOW, SIGMA = 11, 1.5
LEVEL, SPREAD = 0.01**2, 0.03**2  # that keep both fractions finite, for pictures in [0, 1]


def ssim(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean SSIM () of pictures (B, 3, H, W) in [0, 1], each channel for itself; 1 where they are the same.
    The window is cut to the picture where that is smaller."""
    blur = _blur(one, min(WINDOW, *one.shape[-2:]))
    a, b = blur(one), blur(other)
    spread = blur(one * one) - a * a + blur(other * other) - b * b
    level = (2 * a * b + LEVEL) / (a * a + b * b + LEVEL)
    return (level * (2 * (blur(one * other) - a * b) + SPREAD) / (spread + SPREAD)).mean()


def _blur(like: torch.Tensor, size: int):
    place = torch.arange(size, device=like.device) - (size - 1) / 2
    bell = torch.exp(-place.square() / (2 * SIGMA**2))
    window = (torch.outer(bell, bell) / bell.sum() ** 2).to(like)[None, None]
    return lambda images: F.conv2d(images.flatten(0, 1)[:, None], window)
