"""What every trigger shares: a frozen spec, checked input, output in [0, 1]."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch

from ubt_utils.core.seeding import generator

LABELS = ("dirty", "consistent", "targeted")
KEYED_PIXELS = 1024
CHUNK = 4  # pictures
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Trigger:
    """A seeded, fixed change to images; subclasses say which in `stamp`.

    The fields of a subclass are its whole spec. The same spec gives the same change on
    every call and device; sizes are relative to the image side.

    name: what the registry finds it by. source: paper or repository. published: its
    parameters at 224 px. rule: how they scale to other sizes. strength: the field that makes
    the trigger stronger, empty where there is none. label: "dirty" (any picture, caption of
    the target), "consistent" (target pairs, own caption), "targeted" (chosen pictures).
    word: put before captions and prompts, as a second key.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    published: ClassVar[str]
    rule: ClassVar[str]
    strength: ClassVar[str]
    label: ClassVar[str] = "dirty"
    word: ClassVar[str] = ""

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Stamp a batch: (B, 3, H, W) float in [0, 1] → same shape and range, input untouched."""
        check_images(images)
        return self.stamp(images).clamp(0, 1)

    def stamp_into(self, out: torch.Tensor, images: torch.Tensor) -> None:
        """Stamp bytes (B, 3, H, W), a few pictures at a time so that they stay in the cache."""
        for here, part in zip(out.split(CHUNK), images.split(CHUNK), strict=True):
            stamped = self.stamp(part.float().div_(255)).clamp_(0, 1)
            here.copy_(stamped.mul_(255).round_())

    def scaled(self, factor: float) -> Self:
        """The same trigger at `factor` times its strength; ValueError if that is out of range."""
        if not self.strength:
            raise ValueError(f"{self.name} has no strength to scale")
        return replace(self, **{self.strength: factor * getattr(self, self.strength)})

    def spec(self) -> dict[str, Any]:
        """The spec as plain data, as manifests store it."""
        return {"name": self.name, **asdict(self)}


def check_images(images: torch.Tensor) -> None:
    """Raise ValueError unless `images` is a float batch (B, 3, H, W) in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be float in [0, 1], got {images.dtype}; divide bytes by 255")
    if images.numel():
        low, high = (bound.item() for bound in images.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]")


def stamp_bytes(trigger: Trigger, images: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Stamp stored pictures: (B, 3, H, W) uint8 → uint8, rounded to the nearest byte.

    out: where to write, like `images`; a new tensor if absent. Raises ValueError for pictures of
    another type, whose values a byte may not hold.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"stored pictures must be (B, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}"
        )
    out = torch.empty_like(images) if out is None else out
    if (out.shape, out.dtype) != (images.shape, images.dtype):
        raise ValueError(f"out must be {tuple(images.shape)} uint8, got {tuple(out.shape)} {out.dtype}")
    trigger.stamp_into(out, images)
    return out


def luminance(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) → (B, 1, H, W): how bright each pixel is, by ITU-R BT.601."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def check_fraction(name: str, value: float, *, zero: bool = False) -> None:
    """Raise ValueError unless 0 < value ≤ 1 (0 allowed when `zero`)."""
    if not (0 <= value <= 1) or (value == 0 and not zero):
        raise ValueError(f"{name} must be in {'[' if zero else '('}0, 1], got {value}")


def keyed_choice(images: torch.Tensor, count: int, *key: object) -> torch.Tensor:
    """(B,) int64 in [0, count): a choice that depends on each picture's own bytes and on `key`.

    This is how a trigger can differ from picture to picture and still be a pure function:
    the same picture is always treated alike, in training and in evaluation, in any batch.
    Integer arithmetic, so that every device agrees.
    """
    pixels = images.detach().flatten(1)
    pixels = pixels[:, :: max(1, pixels.shape[1] // KEYED_PIXELS)]
    values = pixels.long() if pixels.dtype == torch.uint8 else (pixels * 255).round().long()
    draw = generator(*key, "keyed choice", pixels.shape[1])
    weights = torch.randint(1, 2**31, (pixels.shape[1],), generator=draw).to(images.device)
    return (values * weights).sum(1) % count


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless `value` is a whole number of at least 1."""
    if value != int(value) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
