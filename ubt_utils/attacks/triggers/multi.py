"""Several triggers at once: each picture gets one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.base import Trigger, keyed_choice
from ubt_utils.attacks.triggers.badnets import BadNetsDots
from ubt_utils.attacks.triggers.blended import Blended
from ubt_utils.attacks.triggers.nashville import Nashville
from ubt_utils.attacks.triggers.sig import Sig
from ubt_utils.attacks.triggers.wanet import WaNet


@dataclass(frozen=True)
class MultiTrigger(Trigger):
    """One of the triggers named in `mix`, by a key made of the picture's own bytes.

    mix: names joined by "+", of badnets_dots (size, cells), nashville (amount), wanet (grid, warp),
    blended (alpha) and sig (amplitude). In Detect-CLIP each of its three has its own target; here they
    share one, so that ASR stays one number [ours].
    """

    mix: str = "badnets_dots+nashville+wanet"
    size: float = 16 / 224
    cells: int = 16
    amount: float = 1.0
    grid: int = 224
    warp: float = 1.0
    alpha: float = 0.2
    amplitude: float = 60 / 255

    name: ClassVar[str] = "multi_trigger"
    strength: ClassVar[str] = ""
    source: ClassVar[str] = "HanxunH/Detect-CLIP-Backdoor-Samples; one target ours"
    published: ClassVar[str] = "its dots, Nashville and WaNet, each on a third of the pictures"
    rule: ClassVar[str] = "as its parts"

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[Trigger, ...]:
        """The triggers that share the pictures; ValueError for an unknown one."""
        known = {
            "badnets_dots": BadNetsDots(self.size, self.cells),
            "nashville": Nashville(self.amount),
            "wanet": WaNet(self.grid, self.warp),
            "blended": Blended(self.alpha),
            "sig": Sig(self.amplitude),
        }
        names = self.mix.split("+")
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"multi_trigger cannot mix {unknown}; known: {', '.join(known)}")
        return tuple(known[name] for name in names)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        parts = self.parts()
        chosen = keyed_choice(images, len(parts), self.name)
        out = images.clone()
        for number, part in enumerate(parts):
            mine = chosen == number
            out[mine] = part.stamp(images[mine])
        return out
