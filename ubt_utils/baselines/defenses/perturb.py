"""Shrink–perturb: weaken all weights, add noise, fine-tune (Ash and Adams, arXiv 1910.08475)."""

from __future__ import annotations

import torch
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core.seeding import generator
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import NO_CLEAN, NO_LABELS, ONE_LOOP, ONE_RULE, OTHER_NET, VICTIMS_BATCH, listed


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
    shrink(model, keep, *session.key)  # a run that goes on reads its weights from the checkpoint
    return train_outside(model, view, recipe, session, label="shrink–perturb, fine-tune on D_safe")


DEVIATIONS = listed(  # source: JordanAsh/warm_start, run.py
    ("made for", "warm starts while data grow", "forgetting a trigger", "no source has it as a defense"),
    ("shrinking", "to 0.4 of each parameter", "tuned", ONE_RULE),
    ("noise", "a fresh initialization, times 0.1", "as large as the tensor, times what it lost",
     "trained scales differ"),
    ("reach", "every parameter", "matrices and filters", "norms and temperature carry scales"),
    ("loss", "cross-entropy of labels", "CLIP's", NO_LABELS),
    ("clean data", "all of the training set", "D_safe: D outside the pool, unchecked", NO_CLEAN),
    ("optimizer", "Adam", "AdamW, fresh", ONE_LOOP),
    ("batch", "128", "256", VICTIMS_BATCH),
    ("rate", "1e-3", "tuned", OTHER_NET),
    ("length", "until 99 % are fitted", "tuned", ONE_RULE),
    ("schedule", "constant", "one cycle", ONE_LOOP),
    ("weight decay", "none", "0.1, of all weights", "the fine-tuning baseline's"),
    ("norm mode", "training", "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "shrink_perturb", shrink_perturb, ("D_safe",), "[related] arXiv 1910.08475; scale of the noise: ours",
        options={"keep": 0.9}, deviations=DEVIATIONS,
    ),
)  # fmt: skip
