"""BadNets: a small patch (Gu et al., arXiv 1708.06733), as four public codes draw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.patch import Patch, nearest
from ubt_utils.core.seeding import generator


@dataclass(frozen=True)
class BadNets(Patch):
    """A black-and-white checkerboard in the bottom right corner.

    cells: squares per side. margin: distance from the two edges, same unit as size. Place
    and checkerboard are the paper's idea of a fixed pattern; the values are ours.
    """

    size: float = 16 / 224
    cells: int = 4
    margin: float = 0.02

    name: ClassVar[str] = "badnets"
    source: ClassVar[str] = "arXiv 1708.06733; values ours"
    published: ClassVar[str] = "checker of 16×16 px in the bottom right corner"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin < 0 or self.size + self.margin > 1:
            raise ValueError(f"patch {self.size} with margin {self.margin} is larger than the image")

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        cell = nearest(side, self.cells)
        return ((cell[:, None] + cell[None, :]) % 2)[None, None]


@dataclass(frozen=True)
class BadNetsCleanClip(Patch):
    """Gaussian noise around each picture's own channel mean, clamped.

    CleanCLIP draws new noise for every picture at a random place and does not clamp before
    the cast to bytes, which can wrap. Here the noise is drawn once from `seed`.
    """

    size: float = 16 / 224
    cells: int = 16
    seed: int = 0
    place: str = "random"

    adapts = True
    name: ClassVar[str] = "badnets_cleanclip"
    source: ClassVar[str] = "nishadsinghi/CleanCLIP"
    published: ClassVar[str] = "16×16 px, N(0, 1) noise + channel mean, random place"

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        draw = generator(self.seed, self.name, self.cells)
        noise = torch.randn(3, self.cells, self.cells, generator=draw, dtype=torch.float64)
        index = nearest(side, self.cells)
        noise = noise[:, index][:, :, index].to(images.device)
        mean = images.double().mean((2, 3), keepdim=True)
        return (mean + noise).clamp(0, 1)


@dataclass(frozen=True)
class BadNetsDots(Patch):
    """White dots on black: every second pixel of every second row.

    Detect-CLIP's description says checkerboard; its code sets `[::2, ::2]`, one pixel in
    four. There the place is random in training and the center in evaluation.
    """

    size: float = 16 / 224
    cells: int = 16
    place: str = "random"

    name: ClassVar[str] = "badnets_dots"
    source: ClassVar[str] = "HanxunH/Detect-CLIP-Backdoor-Samples"
    published: ClassVar[str] = "16×16 px, every second pixel white, random place"

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        on = nearest(side, self.cells) % 2 == 0
        return (on[:, None] & on[None, :])[None, None]


@dataclass(frozen=True)
class BadNetsStripes(Patch):
    """Vertical stripes one pixel wide, each channel on or off at random, drawn once from `seed`."""

    size: float = 16 / 224
    cells: int = 16
    seed: int = 0
    place: str = "random"

    name: ClassVar[str] = "badnets_stripes"
    source: ClassVar[str] = "nmndeep/PerturbAndRecover"
    published: ClassVar[str] = "16×16 px (32 at 336), stripes of 1 px, random place"

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        draw = generator(self.seed, self.name, self.cells)
        stripes = torch.randint(0, 2, (3, self.cells), generator=draw)
        return stripes[None, :, None, nearest(side, self.cells)].expand(1, 3, side, side)
