"""Step 1, continued: the pool D_susp. What is outside of it is D_safe.

[paper] D is split by multimodal similarity, weak similarity first. [ours] of the weaker half, those whose
similarity a disturbance takes most of, or, where pictures of other things told, the word's poisoned carriers
and then the weakest; and the pool's size ρ.
"""

from __future__ import annotations

import torch


def weakest(similar: torch.Tensor, fraction: float) -> torch.Tensor:
    """(N,) bool: the fraction of the pairs of the weakest similarity (N,), two at least."""
    return _first(similar.sort(stable=True).indices, max(2, round(fraction * len(similar))))


def _first(order: torch.Tensor, count: int) -> torch.Tensor:
    """(N,) bool: who is among the first of an order (N,)."""
    among = torch.zeros(len(order), dtype=torch.bool)
    among[order[:count]] = True
    return among


def suspicion(drops: torch.Tensor, chosen: list[int]) -> torch.Tensor:
    """(N,) how much a pair suffers: the largest of its drops (K, N) over the chosen disturbances, each in
    standard deviations of those that are known; over all of them where none is chosen. A pair of which no
    drop is known (−inf) suffers less than any other, by one."""
    kept = drops[sorted(set(chosen))] if chosen else drops
    known = kept.isfinite().all(0)
    there = kept[:, known]
    told = ((there - there.mean(1, keepdim=True)) / there.std(1, keepdim=True).clamp(min=1e-9)).amax(0)
    suffers = torch.full((drops.shape[1],), told.min().item() - 1)
    suffers[known] = told
    return suffers


def sufferers_first(suffers: torch.Tensor, alike: float, similar: torch.Tensor) -> torch.Tensor:
    """(N,) suspicion where nothing but carriers of the found words was looked at: those that suffer (N,)
    alike come first, all other pairs by their weak similarity (N,), which is the paper's order."""
    return torch.where(suffers >= alike, suffers + 2, -similar)  # cosines are 1 at most


def pool_of(suspicion: torch.Tensor, fraction: float) -> torch.Tensor:
    """(N,) bool: the `fraction` ρ of the pairs of the highest suspicion (N,).

    Raises ValueError unless the fraction leaves two pairs in and one out.
    """
    count = round(fraction * len(suspicion))
    if not 2 <= count < len(suspicion):
        raise ValueError(f"a pool of {fraction} of {len(suspicion)} pairs is empty or is everything")
    return _first(suspicion.sort(descending=True, stable=True).indices, count)
