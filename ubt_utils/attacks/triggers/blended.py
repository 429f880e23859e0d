"""Blended: one fixed picture mixed into the whole image (Chen et al., arXiv 1712.05526)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from ubt_utils.attacks.base import Trigger, check_count, check_fraction
from ubt_utils.attacks.lettering import letters
from ubt_utils.attacks.patch import nearest
from ubt_utils.core.seeding import generator
from ubt_utils.data.emoji import read_drawing


@dataclass(frozen=True)
class Mixed(Trigger):
    """(1 − alpha) · image + alpha · pattern; subclasses say which pattern."""

    alpha: float = 0.2

    strength: ClassVar[str] = "alpha"
    rule: ClassVar[str] = "the pattern is drawn at the image's size"
    stripes = 1
    cells = 1

    def __post_init__(self) -> None:
        check_fraction("alpha", self.alpha, zero=True)
        check_count("stripes", self.stripes)
        check_count("cells", self.cells)

    def pattern(self, height: int, width: int) -> torch.Tensor:
        """The picture that is mixed in: (3, height, width) in [0, 1], or [−1, 1] for stripes."""
        raise NotImplementedError

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        return images.mul(1 - self.alpha).add_(share(self, *images.shape[-2:]).to(images))


@lru_cache(maxsize=16)
def share(trigger: Mixed, height: int, width: int) -> torch.Tensor:
    """alpha · pattern at that size, kept: many small batches have it in common."""
    return trigger.alpha * trigger.pattern(height, width)


@dataclass(frozen=True)
class Blended(Mixed):
    """Uniform noise of whole bytes, drawn once from `seed` for a given image size.

    CleanCLIP uses alpha 0.2 and redraws the noise at each call, so that no image shares
    its trigger with another.
    """

    seed: int = 0

    name: ClassVar[str] = "blended"
    source: ClassVar[str] = "arXiv 1712.05526; noise: nishadsinghi/CleanCLIP"
    published: ClassVar[str] = "alpha 0.2, uniform noise"

    def pattern(self, height: int, width: int) -> torch.Tensor:
        draw = generator(self.seed, "blended pattern", height, width)
        return torch.randint(0, 256, (3, height, width), generator=draw) / 255


@dataclass(frozen=True)
class BlendedPicture(Mixed):
    """Mixes in a drawing: a cat's face (Noto Emoji), stretched to the image.

    The paper and BadCLIP mix in a picture of a kitten or a banana; this drawing is ours,
    because it is openly licensed.
    """

    drawing: str = "cat face"

    name: ClassVar[str] = "blended_picture"
    source: ClassVar[str] = "arXiv 1712.05526; alpha: LiangSiyuan21/BadCLIP; drawing ours"
    published: ClassVar[str] = "alpha 0.2, a fixed picture"
    rule: ClassVar[str] = "the picture is stretched to the image's size"

    def pattern(self, height: int, width: int) -> torch.Tensor:
        drawing = read_drawing("google", self.drawing)
        paper = Image.new("RGBA", drawing.size, (255, 255, 255, 255))
        paper.alpha_composite(drawing)
        return pil_to_tensor(paper.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)) / 255


@dataclass(frozen=True)
class BlendedStripes(Mixed):
    """Vertical stripes, each channel −1 or +1, drawn once from `seed`: barely visible at 0.03.

    stripes: how many across the image; one pixel wide at 224 px.
    """

    alpha: float = 0.03
    stripes: int = 224
    seed: int = 0

    name: ClassVar[str] = "blended_stripes"
    source: ClassVar[str] = "nmndeep/PerturbAndRecover"
    published: ClassVar[str] = "alpha 0.03, stripes of 1 px"
    rule: ClassVar[str] = "number of stripes kept, at most one a pixel"

    def pattern(self, height: int, width: int) -> torch.Tensor:
        draw = generator(self.seed, self.name, self.stripes)
        sign = 2.0 * torch.randint(0, 2, (3, self.stripes), generator=draw) - 1
        return sign[:, None, nearest(width, self.stripes)].expand(3, height, width)


@dataclass(frozen=True)
class BlendedTriangles(Mixed):
    """Square cells, gray 0.4 on and below the diagonal and 0.8 above it.

    cells: how many across the image; 14 px each at 224 px.
    """

    alpha: float = 0.15
    cells: int = 16

    name: ClassVar[str] = "blended_triangles"
    source: ClassVar[str] = "nmndeep/PerturbAndRecover"
    published: ClassVar[str] = "alpha 0.15, cells of 14 px, gray 0.4 and 0.8"
    rule: ClassVar[str] = "number of cells kept"

    def pattern(self, height: int, width: int) -> torch.Tensor:
        down = (torch.arange(height) * self.cells % height)[:, None] * width  # in whole numbers:
        across = (torch.arange(width) * self.cells % width)[None, :] * height  # ties are on the diagonal
        gray = torch.where(down >= across, 0.4, 0.8)
        return gray.expand(3, height, width)


@dataclass(frozen=True)
class BlendedText(Mixed):
    """Red letters across the middle, mixed in where the letters are.

    solid: in all three channels, so that the letters are red on any ground. The public code
    masks by "not zero" channel by channel, which changes the red channel only: the default.
    The place is fixed here; PerturbAndRecover draws one of three heights for every picture.
    """

    alpha: float = 0.5
    text: str = "watermarked"
    solid: bool = False

    name: ClassVar[str] = "blended_text"
    source: ClassVar[str] = "nmndeep/PerturbAndRecover"
    published: ClassVar[str] = "alpha 0.5 on the letters, red channel"
    rule: ClassVar[str] = "letters as wide as the image"

    def __post_init__(self) -> None:
        super().__post_init__()
        letters(self.text, 8, 8)  # unwritable text is an error now rather than at the first stamp

    def pattern(self, height: int, width: int) -> torch.Tensor:
        """(3, height, width): the ink, 1 in the red channel where the letters are."""
        tall = min(height, max(1, width // 4))
        out = torch.zeros(3, height, width)
        top = (height - tall) // 2
        out[0, top : top + tall] = letters(self.text, tall, width)
        return out

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        ink = share(self, *images.shape[-2:]).to(images)
        mask = ink[:1] > 0 if self.solid else ink > 0
        return torch.where(mask, (1 - self.alpha) * images + ink, images)
