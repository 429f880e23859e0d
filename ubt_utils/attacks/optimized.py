"""Patches that are optimized against the public model before any poisoning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from tqdm.auto import tqdm

from ubt_utils.attacks.base import check_count
from ubt_utils.attacks.craft import Attacker, batch_of, pack, unpack
from ubt_utils.attacks.patch import Patch
from ubt_utils.core import device
from ubt_utils.core.seeding import generator

Objective = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
BATCH = 64


@dataclass(frozen=True)
class OptimizedPatch(Patch):
    """A patch in the center, found by Adam from N(0.5, 0.25); subclasses say what it should reach.

    steps and rate: of Adam, on batches of 64. made: the patch in bytes, once crafted; resized
    by nearest pixel to other sizes.
    """

    size: float = 16 / 224
    steps: int = 300
    rate: float = 0.02
    made: str = ""

    place = "center"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps)

    def pattern(self, images: torch.Tensor, side: int) -> torch.Tensor:
        patch = unpack(self.made, self.name)["patch"]
        index = torch.arange(side) * patch.shape[-1] // side
        return (patch[:, index][:, :, index].float() / 255)[None]

    def objective(self, attacker: Attacker) -> Objective:
        """The loss to minimize: (embeddings of stamped pictures (B, D), their positions (B,), step)."""
        raise NotImplementedError

    def craft(self, attacker: Attacker) -> Self:
        side = self.side(*attacker.pairs.images.shape[-2:])
        draw = generator(attacker.seed, self.name, "init")
        patch = (0.5 + 0.25 * torch.randn(1, 3, side, side, generator=draw)).clamp(0, 1).to(device.pick())
        patch.requires_grad_(True)
        adam = torch.optim.Adam([patch], self.rate)
        loss_of = self.objective(attacker)
        others = ~attacker.show_target()
        for step in tqdm(range(self.steps), f"craft {self.name}", unit="step", mininterval=1):
            index = batch_of(others, BATCH, attacker.seed, self.name, "batch", step)
            images = attacker.pictures(index)
            stamped = self.paste(images.clone(), images, patch)
            (gradient,) = torch.autograd.grad(loss_of(attacker.see(stamped), index, step), patch)
            patch.grad = gradient  # f0 itself gets none
            adam.step()
            with torch.no_grad():
                patch.clamp_(0, 1)
        return replace(self, made=pack(patch=(patch[0].detach() * 255).round().to(torch.uint8)))
