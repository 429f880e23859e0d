"""What every trigger shares: a frozen spec, checked input, output in [0, 1]."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch


@dataclass(frozen=True)
class Trigger:
    """A seeded, fixed change to images; subclasses say which in `stamp`.

    The fields of a subclass are its whole spec. The same spec gives the same change
    on every call and device; sizes are relative to the image side. strength names the
    field that makes the trigger stronger.
    """

    name: ClassVar[str]
    strength: ClassVar[str]
    source: ClassVar[str]

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Stamp a batch: (B, 3, H, W) float in [0, 1] → same shape and range, input untouched."""
        check_images(images)
        return self.stamp(images).clamp(0, 1)

    def scaled(self, factor: float) -> Self:
        """The same trigger at `factor` times its strength; ValueError if that is out of range."""
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
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise ValueError(f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]")


def stamp_bytes(trigger: Trigger, images: torch.Tensor) -> torch.Tensor:
    """Stamp stored pictures: (B, 3, H, W) uint8 → uint8, rounded to the nearest byte."""
    return (trigger(images.float() / 255) * 255).round().to(torch.uint8)


def check_fraction(name: str, value: float, *, zero: bool = False) -> None:
    """Raise ValueError unless 0 < value ≤ 1 (0 allowed when `zero`)."""
    if not (0 <= value <= 1) or (value == 0 and not zero):
        raise ValueError(f"{name} must be in {'[' if zero else '('}0, 1], got {value}")
