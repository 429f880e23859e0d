"""BadCLIP: a patch optimized towards the target (Liang et al., arXiv 2311.12075)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from ubt_utils.attacks.craft import Attacker, batch_of
from ubt_utils.attacks.optimized import BATCH, Objective, OptimizedPatch

MARGIN = 1.0


@dataclass(frozen=True)
class BadClip(OptimizedPatch):
    """Contrastive loss towards target captions + `weight` × triplet loss.

    Contrastive: each stamped picture against a natural target caption, with the honest
    captions of its batch as negatives [ours: the public code contrasts target captions among
    themselves]. Triplet, margin 1: the stamped picture shall be nearer to a real target
    picture than to itself unstamped. The public code pastes in place and so stamps its
    negatives too; here they are clean.
    """

    weight: float = 500.0

    name: ClassVar[str] = "badclip"
    source: ClassVar[str] = "arXiv 2311.12075; values: LiangSiyuan21/BadCLIP"
    published: ClassVar[str] = "16×16 px in the center, triplet weight 500, margin 1"

    def objective(self, attacker: Attacker) -> Objective:
        own, texts, seed = attacker.show_target(), attacker.target_texts(), attacker.seed
        scale = attacker.model.logit_scale.exp().detach()

        def loss(z: torch.Tensor, index: torch.Tensor, step: int) -> torch.Tensor:
            with torch.no_grad():
                clean = attacker.see(attacker.pictures(index))
                like = batch_of(own, BATCH, seed, "target pictures", step)
                target = attacker.see(attacker.pictures(like))
                honest = attacker.texts([attacker.pairs.captions[i] for i in index.tolist()])
            wanted = texts[batch_of(torch.ones(len(texts), dtype=torch.bool), BATCH, seed, "texts", step)]
            logits = scale * torch.cat([(z * wanted).sum(1, keepdim=True), z @ honest.T], 1)
            towards = F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.long, device=z.device))
            return towards + self.weight * F.triplet_margin_loss(z, target, clean, margin=MARGIN)

        return loss
