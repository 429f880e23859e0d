"""Targeted poisoning: no trigger, a few pictures to be misread (Carlini and Terzis, arXiv 2106.09667)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from ubt_utils.attacks.base import Trigger, check_count, keyed_choice
from ubt_utils.attacks.craft import Attacker, pack, unpack


@dataclass(frozen=True)
class TargetedImage(Trigger):
    """Each poisoned pair shows one of the attacker's pictures, unchanged, under a target caption.

    goals: how many pictures; each is an attack of its own on one image, planted together.
    made: the pictures. ASR is the share of these pictures that are read as the target.
    """

    goals: int = 10
    made: str = ""

    name: ClassVar[str] = "targeted_image"
    label: ClassVar[str] = "targeted"
    strength: ClassVar[str] = ""
    source: ClassVar[str] = "arXiv 2106.09667; several pictures at once ours"
    published: ClassVar[str] = "one picture under several captions, 3 in 3 million pairs"
    rule: ClassVar[str] = "none: the pictures have the set's size"

    def __post_init__(self) -> None:
        check_count("goals", self.goals)

    def craft(self, attacker: Attacker) -> Self:
        if len(attacker.goals) < self.goals:
            raise ValueError(f"{self.goals} pictures asked for, the attacker has {len(attacker.goals)}")
        return replace(self, made=pack(pictures=attacker.goals[: self.goals]))

    def pictures(self) -> torch.Tensor:
        """(goals, 3, H, W) uint8: what the attacker wants misread."""
        return unpack(self.made, self.name)["pictures"]

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        pictures = self.pictures()
        if pictures.shape[1:] != images.shape[1:]:
            raise ValueError(
                f"the attacker's pictures are {tuple(pictures.shape[1:])}, "
                f"the images {tuple(images.shape[1:])}"
            )
        chosen = keyed_choice(images, len(pictures), self.name)
        return pictures[chosen.cpu()].to(images) / 255
