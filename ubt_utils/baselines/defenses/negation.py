"""Task-vector negation: subtract what overfitting on the pool adds (Ilharco et al., arXiv 2212.04089)."""

from __future__ import annotations

import time

import torch
from torch import nn

from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import OVERFIT, Defense, Session, View


def direction(model: nn.Module, others: list[nn.Module]) -> dict[str, torch.Tensor]:
    """Per parameter, the mean of the others less the model: where overfitting on the pool leads."""
    theirs = [dict(other.named_parameters()) for other in others]
    return {
        name: torch.stack([one[name].detach() for one in theirs]).mean(0).to(weight) - weight.detach()
        for name, weight in model.named_parameters()
    }


def negate(model: nn.Module, view: View, recipe: Recipe, session: Session, scale: float = 1.0) -> History:
    """θ ← θ − scale · (θ overfit − θ), in place; nothing is trained.

    That the overfit models show where the backdoor lies is [ours]: they are UBT's own.
    """
    history, start = History(), time.perf_counter()
    found = direction(model, [view.model(name) for name in OVERFIT])
    history.seconds += time.perf_counter() - start
    history.note(0, session.watch)
    start = time.perf_counter()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.sub_(scale * found[name])
    history.seconds += time.perf_counter() - start
    history.note(recipe.steps, session.watch)
    return history


DEFENSES = (
    Defense(
        "negation", negate, ("D", "f0", "overfit"), "[related] arXiv 2212.04089; the direction: ours",
        options={"scale": 1.0},
    ),
)  # fmt: skip
