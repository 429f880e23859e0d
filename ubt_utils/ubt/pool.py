"""Step 1, continued: the pool D_susp. What is outside of it is D_safe.

[paper] D is split by multimodal similarity, weak similarity first. [ours] the drop of similarity under
disturbance as the measure, and the pool's size ρ.
"""

from __future__ import annotations

import torch


def suspicion(drops: torch.Tensor, chosen: list[int]) -> torch.Tensor:
    """(N,) how much a pair suffers: the largest of its drops (K, N) over the chosen disturbances, each in its
    own standard deviations; over all of them where none is chosen."""
    kept = drops[sorted(set(chosen))] if chosen else drops
    return ((kept - kept.mean(1, keepdim=True)) / kept.std(1, keepdim=True).clamp(min=1e-9)).amax(0)


def pool_of(suspicion: torch.Tensor, fraction: float) -> torch.Tensor:
    """(N,) bool: the `fraction` ρ of the pairs of the highest suspicion (N,).

    Raises ValueError unless the fraction leaves two pairs in and one out.
    """
    count = round(fraction * len(suspicion))
    if not 2 <= count < len(suspicion):
        raise ValueError(f"a pool of {fraction} of {len(suspicion)} pairs is empty or is everything")
    pool = torch.zeros(len(suspicion), dtype=torch.bool)
    pool[suspicion.sort(descending=True, stable=True).indices[:count]] = True
    return pool
