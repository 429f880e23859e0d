"""From bytes to pixels and captions: what counts as one good row, and what becomes of bad ones."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.functional import pil_to_tensor

TOLERATED = 0.01  # the part of the rows read that may be unusable
NAMED = 5  # unusable rows named in a message


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
        listed = "; ".join(self.rows[:NAMED]) + ("; …" if len(self.rows) > NAMED else "")
        message = f"{len(self.rows)} of {total} rows cannot be used: {listed}"
        if len(self.rows) > TOLERATED * total:
            raise PhotoError(
                f"{message}. More than {TOLERATED:.0%}: get the data again with data_download.sh"
            )
        warnings.warn(f"{message}. They are left out.", stacklevel=3)


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
    Gray becomes RGB, transparency white. Raises ValueError when it does not decode.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data or b""))
        image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image does not decode ({error})") from error
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return pil_to_tensor(FITS[fit](image.convert("RGB"), size))


def _squash(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


FITS = {"squash": _squash, "crop": _crop}
