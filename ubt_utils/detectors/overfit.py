"""Overfit training (METHOD step 2), read where the model has not been trained.

[paper] A short fine-tune of the backdoored model on the suspicious pool strengthens the
shortcut. [ours] The pool is split in two halves; a model overfits on each and scores the
other. A shortcut transfers to pairs that the model has not seen; a memorized mismatch of
picture and caption does not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import take
from ubt_utils.scoring import similarity
from ubt_utils.seeding import generator
from ubt_utils.training import History, Recipe, fit


def pool_of(similarity: torch.Tensor, fraction: float) -> torch.Tensor:
    """(N,) bool: the `fraction` of the pairs with the lowest similarity (METHOD step 1).

    Raises ValueError unless the fraction leaves at least two pairs in and one pair out.
    """
    count = round(fraction * len(similarity))
    if not 2 <= count < len(similarity):
        raise ValueError(f"a pool of {fraction} of {len(similarity)} pairs is empty or is everything")
    pool = torch.zeros(len(similarity), dtype=torch.bool)
    pool[similarity.sort(stable=True).indices[:count]] = True
    return pool


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
