"""How much of a trigger can be seen: clean pictures against stamped ones, without a learned metric."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.attacks.base import check_images, luminance
from ubt_utils.clip import models

GMSD_C = 170 / 255**2


def psnr(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio per picture in dB: (B, 3, H, W) float [0, 1] twice → (B,) float64.

    Infinite for equal pictures.
    """
    _check(clean, stamped)
    error = (clean.double() - stamped.double()).square().flatten(1).mean(1)
    return -10 * error.log10()


def ssim(clean: torch.Tensor, stamped: torch.Tensor, window: int = 11, sigma: float = 1.5) -> torch.Tensor:
    """Structural similarity per picture: (B, 3, H, W) float [0, 1] twice → (B,) float64, 1 for equal.

    Wang et al. 2004: Gaussian window, K1 = 0.01, K2 = 0.03, mean over the places where the whole
    window fits and over channels. Raises ValueError for pictures smaller than the window.
    """
    _check(clean, stamped)
    if min(clean.shape[-2:]) < window:
        raise ValueError(f"SSIM needs pictures of at least {window} px, got {tuple(clean.shape[-2:])}")
    place = torch.arange(window, dtype=torch.float64) - window // 2
    bell = torch.exp(-place.square() / (2 * sigma**2)).to(clean.device)
    bell = bell / bell.sum()

    def smooth(x: torch.Tensor) -> torch.Tensor:
        flat = F.conv2d(x.flatten(0, 1).unsqueeze(1), bell.view(1, 1, -1, 1))
        return F.conv2d(flat, bell.view(1, 1, 1, -1)).view(*x.shape[:2], *flat.shape[-2:-1], -1)

    x, y, c1, c2 = clean.double(), stamped.double(), 0.01**2, 0.03**2
    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
    value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.flatten(1).mean(1)


def gmsd(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude similarity deviation per picture: (B, 3, H, W) twice → (B,) float64, 0 for equal.

    A perceptual distance without weights (Xue et al. 2014): brightness, halved in size, Prewitt
    gradients, standard deviation of their similarity; 0.1 is clearly visible.
    """
    _check(clean, stamped)
    a, b = _gradient(clean), _gradient(stamped)
    alike = (2 * a * b + GMSD_C) / (a.square() + b.square() + GMSD_C)
    return alike.flatten(1).std(1, correction=0)


def _gradient(images: torch.Tensor) -> torch.Tensor:
    small = F.avg_pool2d(luminance(images.double()), 2)
    across = torch.tensor([[1.0, 0, -1]] * 3, dtype=torch.float64, device=images.device) / 3
    kernels = torch.stack([across, across.T]).unsqueeze(1)
    return F.conv2d(small, kernels, padding=1).square().sum(1).sqrt()


def clip_similarity(model: nn.Module, clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Cosine of the image embeddings per picture: (B, 3, H, W) uint8 twice → (B,)."""
    return (models.embed_images(model, clean) * models.embed_images(model, stamped)).sum(1)


def measure(model: nn.Module, clean: torch.Tensor, stamped: torch.Tensor) -> dict[str, float]:
    """All four, mean over the pictures (B, 3, H, W) uint8; model: the public one.

    Pictures that a trigger leaves alone have no finite PSNR and do not enter its mean.
    """
    x, y = clean.float() / 255, stamped.float() / 255
    ratio = psnr(x, y)
    seen = ratio[ratio.isfinite()]
    return {
        "psnr": seen.mean().item() if len(seen) else math.inf,
        "ssim": ssim(x, y).mean().item(),
        "gmsd": gmsd(x, y).mean().item(),
        "clip_similarity": clip_similarity(model, clean, stamped).mean().item(),
    }


def _check(clean: torch.Tensor, stamped: torch.Tensor) -> None:
    for images in (clean, stamped):
        check_images(images)
    if clean.shape != stamped.shape:
        raise ValueError(f"clean pictures are {tuple(clean.shape)}, stamped ones {tuple(stamped.shape)}")
