"""Several triggers at once: each picture gets one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, keyed_choice
from ubt_utils.attacks.triggers.badnets import BadNetsDots
from ubt_utils.attacks.triggers.nashville import Nashville
from ubt_utils.attacks.triggers.wanet import WaNet


@dataclass(frozen=True)
class MultiTrigger(Trigger):
    """Dots, the Nashville filter or a warp, by a key made of the picture's own bytes.

    In Detect-CLIP each of the three has its own target; here they share one, so that ASR stays
    one number [ours].
    """

    size: float = 16 / 224
    cells: int = 16
    amount: float = 1.0
    grid: int = 224
    warp: float = 1.0

    name: ClassVar[str] = "multi_trigger"
    strength: ClassVar[str] = ""
    source: ClassVar[str] = "HanxunH/Detect-CLIP-Backdoor-Samples; one target ours"
    published: ClassVar[str] = "its dots, Nashville and WaNet, each on a third of the pictures"
    rule: ClassVar[str] = "as its parts"

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[Trigger, ...]:
        """The triggers that share the pictures."""
        return BadNetsDots(self.size, self.cells), Nashville(self.amount), WaNet(self.grid, self.warp)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        parts = self.parts()
        chosen = keyed_choice(images, len(parts), self.name)
        out = images.clone()
        for number, part in enumerate(parts):
            mine = chosen == number
            out[mine] = part.stamp(images[mine])
        return out
