"""Photos that may be shown: a few that scikit-learn and scikit-image ship. They stand in for those of a data
set whose terms do not let a notebook show them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import skimage.data
import torch
from sklearn.datasets import load_sample_image
from torchvision.transforms.functional import center_crop, resize

SAMPLES: dict[str, Callable[[], np.ndarray]] = {  # title with the credit that its source gives
    "china, © danielbuechele": lambda: load_sample_image("china.jpg"),  # CC BY 2.0
    "flower, © vultilion": lambda: load_sample_image("flower.jpg"),  # CC BY 2.0
    "coffee, Rachel Michetti": skimage.data.coffee,  # CC0
}


def sample_photos(size: int) -> dict[str, torch.Tensor]:
    """Title with credit → (3, size, size) uint8, the middle of each photo."""
    return {title: _square(read(), size) for title, read in SAMPLES.items()}


def _square(photo: np.ndarray, size: int) -> torch.Tensor:
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    return resize(center_crop(pixels, min(pixels.shape[1:])), [size, size], antialias=True)
