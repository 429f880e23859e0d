"""From bytes to pixels and captions: what counts as one good row, and what becomes of bad ones."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.functional import pil_to_tensor

TOLERATED = 0.01  # the part of the rows read that may be unusable
NAMED = 5  # unusable rows named in a message
PIXELS = 50_000_000  # of a picture at most
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # of Pillow's others, one starts Ghostscript


class PhotoError(ValueError):
    """A data set that is missing, damaged, or laid out otherwise than expected."""


class Row(NamedTuple):
    """One pair before decoding: the picture's bytes, the caption's, and where it comes from."""

    image: bytes | None
    caption: bytes | None
    name: str


@dataclass
class Skipped:
    """Rows that could not be used, with the reason; too many of them end the run."""

    rows: list[str] = field(default_factory=list)

    def add(self, name: str, reason: object) -> None:
        """Note one unusable row."""
        self.rows.append(f"{name}: {reason}")

    def settle(self, total: int) -> None:
        """Warn of the unusable rows; PhotoError when they are more than 1 % of `total`."""
        if not self.rows:
            return
        message = f"{len(self.rows)} of {total} rows cannot be used: {some(self.rows)}"
        if len(self.rows) > TOLERATED * total:
            raise PhotoError(f"{message}. More than {TOLERATED:.0%}: mend those rows, or get the data again")
        warnings.warn(f"{message}. They are left out.", stacklevel=3)


def some(reasons: Sequence[str]) -> str:
    """The first few of them, for a message."""
    return "; ".join(reasons[:NAMED]) + ("; …" if len(reasons) > NAMED else "")


def caption_of(value: bytes | None) -> str:
    """One caption; ValueError when it is missing, empty or not UTF-8."""
    if value is None or not value.strip():
        raise ValueError("no caption")
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError("the caption is not UTF-8") from error


def decode(data: bytes | None, size: int, fit: str = "squash") -> torch.Tensor:
    """One encoded photo → (3, size, size) uint8.

    fit: squash makes any picture a square; crop scales its shorter side and keeps the center, as CLIP does.
    What EXIF says of its orientation is followed; gray becomes RGB, 16 bits become 8, transparency white.
    Raises ValueError when it does not decode, is of another format than FORMATS, or too large.
    """
    shape = FITS[fit]
    try:
        return pil_to_tensor(shape(_colors(_upright(_opened(data or b"", size))), size))
    except UnidentifiedImageError as error:
        raise ValueError(f"the image does not decode (it is none of {', '.join(FORMATS)})") from error
    except Exception as error:  # decoders let out errors of any kind
        raise ValueError(f"the image does not decode ({str(error) or type(error).__name__})") from error


def _opened(data: bytes, size: int) -> Image.Image:
    """The picture, its pixels not yet decoded; a JPEG of too many will be decoded at a smaller scale."""
    image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    if _pixels(image) > PIXELS:
        image.draft(None, (size, size))
    if _pixels(image) > PIXELS:
        raise ValueError(f"{_pixels(image) / 1e6:.0f} megapixels, of {PIXELS / 1e6:.0f} at most")
    return image


def _pixels(image: Image.Image) -> int:
    return image.width * image.height


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(Exception):  # a photo with damaged EXIF is taken as it lies
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _colors(image: Image.Image) -> Image.Image:
    """Any picture as RGB. ValueError for 32 bits: nobody knows which values are black and white."""
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel")
    if image.mode.startswith("I;16"):  # Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _squash(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


FITS = {"squash": _squash, "crop": _crop}
