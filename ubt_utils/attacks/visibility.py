"""How much of a trigger can be seen: clean pictures against stamped ones, without a learned metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from ubt_utils.attacks.base import check_images, luminance
from ubt_utils.clip import models

GMSD_C = 170 / 255**2
WINDOW = 11  # pixels of SSIM's window


def psnr(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio per picture in dB: (B, 3, H, W) float [0, 1] twice → (B,) float64.

    Infinite for equal pictures.
    """
    with np.errstate(divide="ignore"):
        return _each(clean, stamped, partial(peak_signal_noise_ratio, data_range=1.0))


def ssim(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Structural similarity per picture: (B, 3, H, W) float [0, 1] twice → (B,) float64, 1 for equal.

    As Wang et al. 2004: a Gaussian window of 11 pixels, the mean over the places where it fits and over
    channels. Raises ValueError for pictures smaller than the window.
    """
    if min(clean.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} px, got {tuple(clean.shape[-2:])}")
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    return _each(clean, stamped, partial(structural_similarity, data_range=1.0, **how))


def _each(
    clean: torch.Tensor, stamped: torch.Tensor, measure: Callable[[np.ndarray, np.ndarray], float]
) -> torch.Tensor:
    _check(clean, stamped)
    x, y = (images.detach().cpu().double().numpy() for images in (clean, stamped))
    return torch.tensor([measure(a, b) for a, b in zip(x, y, strict=True)], dtype=torch.float64)


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
