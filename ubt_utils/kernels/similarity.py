"""SSIM: how alike two pictures look (Wang et al., IEEE Transactions on Image Processing 13(4), 2004)."""

from __future__ import annotations

import torch

WINDOW, SIGMA = 11, 1.5
LEVEL, SPREAD = 0.01**2, 0.03**2  # that keep both fractions finite, for pictures in [0, 1]


def ssim(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean SSIM () of pictures (B, 3, H, W) in [0, 1], each channel for itself; 1 where they are the same.
    A window larger than the picture is cut to it."""
    rows, columns = (_bells(n, one) for n in one.shape[-2:])

    def blur(images: torch.Tensor) -> torch.Tensor:
        return rows @ images @ columns.T  # the window is a product, and a convolution of one channel is slow

    a, b = blur(one), blur(other)
    spread = blur(one * one) - a * a + blur(other * other) - b * b
    level = (2 * a * b + LEVEL) / (a * a + b * b + LEVEL)
    return (level * (2 * (blur(one * other) - a * b) + SPREAD) / (spread + SPREAD)).mean()


def _bells(n: int, like: torch.Tensor) -> torch.Tensor:
    """(n − window + 1, n): in each row the window's bell, a place further on."""
    size = min(WINDOW, n)
    bell = torch.exp(-(torch.arange(size) - (size - 1) / 2).square() / (2 * SIGMA**2))
    bell = (bell / bell.sum()).to(like)
    found = bell.new_zeros(n - size + 1, n)
    for i, row in enumerate(found):
        row[i : i + size] = bell
    return found
