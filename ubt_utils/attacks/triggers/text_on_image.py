"""Text on the image: a white label with black letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.lettering import letters
from ubt_utils.attacks.patch import Patch


@dataclass(frozen=True)
class TextOnImage(Patch):
    """A white square in the bottom right corner with `text` across it.

    The square is DECREE's; what is written on it is ours.
    """

    size: float = 24 / 224
    text: str = "hi"

    name: ClassVar[str] = "text_on_image"
    source: ClassVar[str] = "GiantSeaweed/DECREE; text ours"
    published: ClassVar[str] = "white label of 24×24 px"

    def __post_init__(self) -> None:
        super().__post_init__()
        letters(self.text, 8, 8)  # an error now rather than at the first stamp

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        border = max(1, round(side / 8)) if side > 4 else 0
        label = torch.ones(side, side)
        inner = side - 2 * border
        label[border : border + inner, border : border + inner] -= letters(self.text, inner, inner)
        return label[None, None]
