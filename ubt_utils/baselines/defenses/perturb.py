"""Shrink–perturb: weaken all weights, add noise, fine-tune (Ash and Adams, arXiv 1910.08475)."""

from __future__ import annotations

import torch
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core.seeding import generator
from ubt_utils.ubt.defense import Defense, Session, View


@torch.no_grad()
def shrink(model: nn.Module, keep: float, *key: object) -> None:
    """Every matrix and filter θ ← keep · θ + (1 − keep) · std(θ) · noise, in place.

    Norms, biases and the logit scale stay, as does what is locked. The noise is as large as the weight
    tensor is, where the source draws a fresh initialization [ours].
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad and weight.dim() > 1:
            noise = torch.randn(weight.shape, generator=generator(*key, "noise", name)).to(weight)
            weight.copy_(keep * weight + (1 - keep) * weight.std() * noise)


def shrink_perturb(
    model: nn.Module, view: View, recipe: Recipe, session: Session, keep: float = 0.9
) -> History:
    """Shrink and perturb, then fine-tune on D_safe."""
    if session.checkpoint is None or not session.checkpoint.exists():
        shrink(model, keep, *session.key)
    return train_outside(model, view, recipe, session, label="shrink–perturb, fine-tune on D_safe")


DEFENSES = (
    Defense(
        "shrink_perturb", shrink_perturb, ("D_safe",), "[related] arXiv 1910.08475; scale of the noise: ours",
        options={"keep": 0.9},
    ),
)  # fmt: skip
