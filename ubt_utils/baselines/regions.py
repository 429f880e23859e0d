"""What a picture shows, outlined without a trained model, and each of it alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.segmentation import felzenszwalb

Oracle = Callable[[np.ndarray], np.ndarray]  # one picture (H, W, 3) uint8 → its regions (R, H, W) bool
SCALE, BLUR, LEAST = 200, 0.5, 0.02  # of the superpixels; the smallest is a part of the picture
WHOLE = 0.8  # part of the picture from which a region is all of it, and is not cut out
SAME = 0.7  # overlap (intersection over union) from which two boxes are one


def outlined(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → (R, H, W) bool: superpixels, neighbors that look alike merged (Felzenszwalb and
    Huttenlocher, 2004)."""
    height, width = picture.shape[:2]
    found = felzenszwalb(picture, SCALE, BLUR, max(2, round(LEAST * height * width)))
    return found == np.arange(found.max() + 1)[:, None, None]


def box(region: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right (exclusive) of a region (H, W) bool that is not empty."""
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Intersection over union of two boxes."""
    high = min(one[1], other[1]) - max(one[0], other[0])
    wide = min(one[3], other[3]) - max(one[2], other[2])
    both = max(0, high) * max(0, wide)
    return both / (area(one) + area(other) - both)


def area(where: tuple[int, ...]) -> int:
    """Pixels of a box."""
    return (where[1] - where[0]) * (where[3] - where[2])


def boxes(regions: np.ndarray, most: int) -> list[tuple[int, int, int, int]]:
    """The boxes around regions (R, H, W) bool, largest first and `most` at most; none that is all of the
    picture, and one where several nearly coincide, such as those of the black and the white of a checker."""
    kept: list[tuple[int, int, int, int]] = []
    whole = WHOLE * regions[0].size if len(regions) else 0
    for one in sorted((box(region) for region in regions if region.any()), key=area, reverse=True):
        if area(one) < whole and all(overlap(one, other) < SAME for other in kept):
            kept.append(one)
    return kept[:most]


def border_color(picture: np.ndarray) -> np.ndarray:
    """(3,) the median color of a picture's (H, W, 3) outermost pixels."""
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    return np.median(np.concatenate(edges), axis=0)


def cut_out(picture: np.ndarray, oracle: Oracle, most: int) -> list[np.ndarray]:
    """Each region of a picture (H, W, 3) uint8 alone: its box where it was, else the border's color."""
    out = []
    for top, bottom, left, right in boxes(oracle(picture), most):
        alone = np.empty_like(picture)
        alone[:] = border_color(picture).astype(np.uint8)
        alone[top:bottom, left:right] = picture[top:bottom, left:right]
        out.append(alone)
    return out
