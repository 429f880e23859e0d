"""Step 1, the suspicious pool: pairs whose picture and caption come apart when the picture is disturbed.

[paper] Pairs of weak similarity come first. [ours] Which similarity: that under the backdoored model itself,
in two steps. The weaker half of D is looked at: most poisoned pairs are there, since one trigger cannot tell
their many captions apart. There it counts what a disturbance of the picture takes. A drawing survives most of
them, a trigger does not survive the one that breaks it, and no public model is needed. Nobody knows
beforehand which one that is, so a family of them is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarities
from ubt_utils.data.pictures import Images, take

Disturbance = Callable[[torch.Tensor], torch.Tensor]  # (B, 3, H, W) float [0, 1] → the same, unclamped


def _mean(images: torch.Tensor) -> torch.Tensor:
    return images.mean((-1, -2), keepdim=True)


BOX = 0.25  # of the side, along which a picture is averaged
COARSE = 2  # times as coarse is what `blur` leaves
PALE = 0.4  # of the contrast
EDGE = 0.125  # of the side, on each side, that `cropped` takes off
TURNS = 2  # of `medians`: the first leaves a part of a warp, a third takes hardly more


def blur(images: torch.Tensor) -> torch.Tensor:
    """Half the resolution: breaks small patches, warps and noise."""
    side = images.shape[-1] // COARSE
    small = F.interpolate(images, (side, side), mode="area")
    return F.interpolate(small, images.shape[-2:], mode="bilinear")


def along_columns(images: torch.Tensor) -> torch.Tensor:
    """Averaged along each column: breaks what changes from top to bottom."""
    half = max(1, round(BOX * images.shape[-1] / 2))
    padded = F.pad(images, (0, 0, half, half), mode="replicate")
    return padded.unfold(-2, 2 * half + 1, 1).mean(-1)  # twelve times as fast as average pooling on a CPU


def column_means(images: torch.Tensor) -> torch.Tensor:
    """Every column at the picture's own mean: breaks vertical stripes, however wide."""
    return images - images.mean(-2, keepdim=True) + _mean(images)


def row_means(images: torch.Tensor) -> torch.Tensor:
    """Every row at the picture's own mean: breaks horizontal stripes."""
    return images - images.mean(-1, keepdim=True) + _mean(images)


def pale(images: torch.Tensor) -> torch.Tensor:
    """Less contrast: breaks changes of color and faint patterns."""
    return _mean(images) + PALE * (images - _mean(images))


def cropped(images: torch.Tensor) -> torch.Tensor:
    """The middle, enlarged: breaks what sits at the edge, or at one scale."""
    edge = round(EDGE * images.shape[-1])
    middle = images[..., edge:-edge, edge:-edge]
    return F.interpolate(middle, images.shape[-2:], mode="bilinear")


def medians(images: torch.Tensor) -> torch.Tensor:
    """Each pixel as the median of three along its column, then along its row, and so again: breaks warps and
    fine traces, and leaves edges where they are."""
    for _ in range(TURNS):
        for axis in (-2, -1):
            images = _median(images, axis)
    return images


def _median(images: torch.Tensor, axis: int) -> torch.Tensor:
    """Of each pixel and its two neighbors along an axis; at an end, which has one, the pixel itself."""
    inner = images.shape[axis] - 2
    before, here, after = (images.narrow(axis, start, inner) for start in range(3))
    middle = before.minimum(after).maximum(before.maximum(after).minimum(here))
    return torch.cat([images.narrow(axis, 0, 1), middle, images.narrow(axis, inner + 1, 1)], axis)


def _covered(images: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """A quarter of the picture at the picture's own mean, from so far down and to the right: breaks what sits
    there, however coarse it is, and leaves three quarters of what is shown."""
    height, width = images.shape[-2:]
    top, left = round(down * height), round(right * width)
    covered = images.clone()
    covered[..., top : top + height // 2, left : left + width // 2] = _mean(images)
    return covered


COVERS = {  # where each begins, as parts of the side
    "upper_left": (0.0, 0.0),
    "upper_right": (0.0, 0.5),
    "lower_left": (0.5, 0.0),
    "lower_right": (0.5, 0.5),
    "center": (0.25, 0.25),
}
DISTURBANCES: dict[str, Disturbance] = {
    f.__name__: f for f in (blur, along_columns, column_means, row_means, pale, cropped, medians)
} | {name: partial(_covered, down=down, right=right) for name, (down, right) in COVERS.items()}


def change(name: str) -> models.Change:
    """The disturbance of that name on stored pictures, (B, 3, H, W) uint8 → the same; ValueError lists the
    known ones."""
    if name not in DISTURBANCES:
        raise ValueError(f"unknown disturbance {name!r}; known: {', '.join(DISTURBANCES)}")
    disturbance = DISTURBANCES[name]

    def changed(images: torch.Tensor) -> torch.Tensor:
        return disturbance(images.float().div_(255)).clamp_(0, 1).mul_(255).round_().to(torch.uint8)

    return changed


def drops(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    similar: torch.Tensor,
    rows: torch.Tensor,
    names: Sequence[str],
) -> torch.Tensor:
    """(K, N) how much each of the K disturbances takes of the similarity (N,) of pictures (N, 3, H, W) uint8
    and captions (N, L) under the model; −inf where rows (N,) bool does not ask for it."""
    fallen = torch.full((len(names), len(tokens)), -torch.inf)
    if names and rows.any():
        disturbed = similarities(model, take(images, rows), tokens[rows], [change(name) for name in names])
        fallen[:, rows] = similar[rows] - disturbed
    return fallen


def agreement(model: nn.Module, images: torch.Tensor, name: str = "") -> float:
    """Mean cosine of all pairs of the pictures (n, 3, H, W) uint8 under the model, n ≥ 2, after a disturbance
    where one is named.

    Pictures that share a trigger agree, and no longer do when it is broken, since they show different things.
    Honest pictures that share a word show like things, and go on to agree.
    """
    n = len(images)
    if n < 2:
        raise ValueError(f"agreement needs at least two pictures, got {n}")
    return mean_cosine(models.embed_images(model, images, change=change(name) if name else None)).item()


def taken(model: nn.Module, images: torch.Tensor, name: str) -> float:
    """The agreement of pictures (n, 3, H, W) uint8 that a disturbance takes, n ≥ 2."""
    return agreement(model, images) - agreement(model, images, name)


def mean_cosine(embedded: torch.Tensor) -> torch.Tensor:
    """() double, the mean cosine of all pairs of rows of unit embeddings (n, D), n ≥ 2."""
    n = len(embedded)
    return (embedded.double().sum(0).square().sum() - n) / (n * (n - 1))
