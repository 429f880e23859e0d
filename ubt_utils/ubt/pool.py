"""Step 1, the suspicious pool: pairs of weak similarity under the public model.

[paper] Pairs of weak similarity come first. [ours] The public model f0 scores, and the pool's size ρ.
"""

from __future__ import annotations

import torch


def pool_of(s0: torch.Tensor, fraction: float) -> torch.Tensor:
    """(N,) bool: the `fraction` ρ of the pairs with the lowest similarity s0 (N,) under f0.

    What is outside is D_safe. Raises ValueError unless the fraction leaves two pairs in and one out.
    """
    count = round(fraction * len(s0))
    if not 2 <= count < len(s0):
        raise ValueError(f"a pool of {fraction} of {len(s0)} pairs is empty or is everything")
    pool = torch.zeros(len(s0), dtype=torch.bool)
    pool[s0.sort(stable=True).indices[:count]] = True
    return pool
