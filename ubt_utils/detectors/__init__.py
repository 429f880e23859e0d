"""Detectors: a score per pair, higher = more suspicious. UBT's is one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ubt_utils.seeding import generator


@dataclass(frozen=True)
class Scores:
    """What a detector may see, all (N,): cosine similarity of image and caption under the
    public model (public, s0), the backdoored one (backdoored, sb) and the overfit one (overfit,
    s1, for pool pairs that this model was not trained on; −inf elsewhere). pool: bool, D_susp.
    """

    public: torch.Tensor
    backdoored: torch.Tensor
    overfit: torch.Tensor
    pool: torch.Tensor


def random(scores: Scores) -> torch.Tensor:
    """Chance, as a floor."""
    return torch.rand(len(scores.public), generator=generator("random detector"))


def clipscore(scores: Scores) -> torch.Tensor:
    """Least similar under the public model [paper: weak similarity]."""
    return -scores.public


def similarity(scores: Scores) -> torch.Tensor:
    """Most similar under the backdoored model [related]."""
    return scores.backdoored


def gain(scores: Scores) -> torch.Tensor:
    """What the backdoored model fits better than the public one: sb − s0 [ours]."""
    return scores.backdoored - scores.public


def overfit(scores: Scores) -> torch.Tensor:
    """UBT's rank by s1 inside the pool [paper], read on held-out halves [ours]."""
    return torch.where(scores.pool, scores.overfit, -torch.inf)


def overfit_gain(scores: Scores) -> torch.Tensor:
    """s1 − s0 inside the pool [ours]."""
    return torch.where(scores.pool, scores.overfit - scores.public, -torch.inf)


DETECTORS: dict[str, Callable[[Scores], torch.Tensor]] = {
    f.__name__: f for f in (random, clipscore, similarity, gain, overfit, overfit_gain)
}
