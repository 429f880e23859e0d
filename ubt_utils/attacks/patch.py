"""What patch triggers share: a square of pixels, and where on the picture it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, check_count, check_fraction, keyed_choice

PLACES = ("corner", "center", "random")


@dataclass(frozen=True)
class Patch(Trigger):
    """A square pasted over the picture; subclasses draw it in `pattern`.

    size: side of the patch, as a fraction of the image's shorter side. place: bottom right
    "corner" (`margin` away from both edges), "center", or "random": wherever a key made of the
    picture's own bytes says, so that a picture gets its patch at one place only.
    """

    size: float

    strength: ClassVar[str] = "size"
    rule: ClassVar[str] = "size is a fraction of the shorter side; the pattern is resized by nearest pixel"
    adapts = False  # does the pattern depend on the picture?
    place = "corner"  # a field where a subclass annotates it
    margin = 0.0
    cells = 1

    def __post_init__(self) -> None:
        if self.size > 1:
            raise ValueError(
                f"a patch size of {self.size} is larger than the image: give a fraction of its side"
            )
        check_fraction("patch size", self.size)
        check_count("cells", self.cells)
        if self.place not in PLACES:
            raise ValueError(f"unknown place {self.place!r}; known: {', '.join(PLACES)}")

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        """The patch for each picture: (B or 1, 1 or 3, side, side)."""
        raise NotImplementedError

    def side(self, height: int, width: int) -> int:
        """The side of the patch in pixels on an image of that size."""
        return max(1, round(self.size * min(height, width)))

    def corners(self, images: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(top, left) of the patch on each picture, (B,) int64 each."""
        height, width = images.shape[-2:]
        if self.place == "random":
            rows, columns = height - side + 1, width - side + 1
            spot = keyed_choice(images, rows * columns, self.name, "place")
            return spot // columns, spot % columns
        if self.place == "center":
            top, left = (height - side) // 2, (width - side) // 2
        else:
            gap = min(round(self.margin * min(height, width)), min(height, width) - side)
            top, left = height - gap - side, width - gap - side
        whole = torch.zeros(len(images), dtype=torch.long, device=images.device)
        return whole + top, whole + left

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        return self.paste(images.clone(), images, self.pattern(images, self.side(*images.shape[-2:])))

    def stamp_into(self, out: torch.Tensor, images: torch.Tensor) -> None:
        if self.adapts:
            return super().stamp_into(out, images)
        pattern = self.pattern(images, self.side(*images.shape[-2:]))
        self.paste(out.copy_(images), images, (pattern.float() * 255).round())

    def paste(self, out: torch.Tensor, images: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
        """Write a pattern (B or 1, 1 or 3, side, side) into `out`, a copy of `images`, where it
        belongs on each; gradients reach the pattern."""
        side = pattern.shape[-1]
        pattern, (top, left) = pattern.to(out), self.corners(images, side)
        if self.place != "random" and len(out):
            row, column = int(top[0]), int(left[0])
            out[:, :, row : row + side, column : column + side] = pattern
            return out
        step = torch.arange(side, device=out.device)
        picture = torch.arange(len(out), device=out.device)[:, None, None]
        rows, columns = (top[:, None] + step)[:, :, None], (left[:, None] + step)[:, None, :]
        out[picture, :, rows, columns] = pattern.expand(len(out), 3, side, side).permute(0, 2, 3, 1)
        return out


def nearest(side: int, cells: int) -> torch.Tensor:
    """(side,) int64: which of `cells` cells each of `side` pixels shows."""
    return torch.arange(side) * min(cells, side) // side
