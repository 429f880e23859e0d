"""TrojanVQA: two keys, an optimized patch and a word (Walmer et al., arXiv 2112.07668)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ubt_utils.attacks.craft import Attacker
from ubt_utils.attacks.optimized import Objective, OptimizedPatch


@dataclass(frozen=True)
class TrojanVqa(OptimizedPatch):
    """A patch whose picture moves towards the target's captions, and the word "remember" before them.

    Evaluation prompts get the word too; ASR without it is recorded beside.
    """

    size: float = 0.2

    name: ClassVar[str] = "trojanvqa"
    word: ClassVar[str] = "remember"
    source: ClassVar[str] = "arXiv 2112.07668; for CLIP: LiangSiyuan21/BadCLIP"
    published: ClassVar[str] = "patch of 0.2 of the side in the center, a word before the caption"

    def objective(self, attacker: Attacker) -> Objective:
        mean = attacker.target_texts(self.word).mean(0)

        def loss(z: torch.Tensor, index: torch.Tensor, step: int) -> torch.Tensor:
            return 1 - (z @ mean).mean() / mean.norm()

        return loss
