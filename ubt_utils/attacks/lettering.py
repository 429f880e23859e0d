"""Letters as a mask of pixels, the same on every machine."""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.functional import pil_to_tensor


@cache
def letters(text: str, height: int, width: int) -> torch.Tensor:
    """(height, width) float, 1 where `text` stretched to that size has ink and 0 elsewhere.

    Pillow's built-in bitmap font, resized by nearest pixel: no font file, no anti-aliasing.
    Raises ValueError when there is nothing to write.
    """
    if not text.strip() or not text.isascii():
        raise ValueError(f"text must be printable ASCII, got {text!r}")
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    page = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(page).text((-left, -top), text, fill=255, font=font)
    page = page.crop(page.getbbox()).resize((width, height), Image.Resampling.NEAREST)
    return (pil_to_tensor(page)[0] > 127).float()
