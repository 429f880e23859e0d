"""What happens to pictures on the way to a model: stored as JPEG, or resized and back."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

QUALITIES = (95, 75, 50, 30)
SCALES = (0.75, 0.5)


def jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Each picture stored as JPEG and read again: (N, 3, H, W) uint8 → the same.

    Raises ValueError unless 1 ≤ quality ≤ 100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must be in 1..100, got {quality}")
    stored = (encode_jpeg(image.contiguous(), quality) for image in images)
    return torch.stack([decode_jpeg(data, ImageReadMode.RGB) for data in stored])


def resize(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Each picture made `scale` times its size and enlarged again: (N, 3, H, W) uint8 → the same.

    Bilinear with anti-aliasing, as open_clip's transforms. Raises ValueError unless 0 < scale ≤ 1.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be in (0, 1], got {scale}")
    height, width = images.shape[-2:]
    small = (max(1, round(scale * height)), max(1, round(scale * width)))
    less = F.interpolate(images.float(), small, mode="bilinear", antialias=True)
    back = F.interpolate(less, (height, width), mode="bilinear", antialias=True)
    return back.round().clamp(0, 255).to(torch.uint8)


CHANGES = {f"jpeg_{quality}": partial(jpeg, quality=quality) for quality in QUALITIES} | {
    f"resize_{100 * scale:.0f}": partial(resize, scale=scale) for scale in SCALES
}
