"""Step 2, overfit training, read where the model has not been trained.

[paper] A short fine-tune of the backdoored model on the suspicious pool strengthens the
shortcut. [ours] The pool is split in two halves; a model overfits on each and scores the
other. A shortcut transfers to pairs that the model has not seen; a memorized mismatch of
picture and caption does not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.scoring import similarity
from ubt_utils.clip.training import History, fit
from ubt_utils.core.seeding import generator
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import take


def halves_of(pool: torch.Tensor, *key: object) -> torch.Tensor:
    """(N,) int64: 0 or 1 at random for pool pairs (equal numbers), −1 outside."""
    inside = pool.nonzero().flatten()
    order = inside[torch.randperm(len(inside), generator=generator(*key, "halves"))]
    half = torch.full((len(pool),), -1)
    half[order[: len(order) // 2]] = 0
    half[order[len(order) // 2 :]] = 1
    return half


def overfit_half(
    model: nn.Module,
    pairs: Pairs,
    tokens: torch.Tensor,
    half: torch.Tensor,
    side: int,
    recipe: Recipe,
    reads: int,
    *key: object,
    checkpoint: Path | None = None,
) -> History:
    """Overfit `model` in place on the pairs of the other side, and read it on this `side`.

    The history's curve holds (step, similarities (n,) of the n pairs with half == side) at
    `reads` + 1 steps, from before the first to after the last.
    """
    train, held = half == 1 - side, half == side
    stops = {round(recipe.steps * r / reads) for r in range(reads + 1)}

    def read(step: int) -> torch.Tensor | None:
        return similarity(model, take(pairs.images, held), tokens[held]) if step in stops else None

    return fit(
        model,
        take(pairs.images, train),
        tokens[train],
        recipe,
        *key,
        "overfit",
        side,
        checkpoint=checkpoint,
        watch=read,
        label=f"overfit, half {side + 1} of 2",
    )
