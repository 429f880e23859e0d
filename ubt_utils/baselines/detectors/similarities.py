"""Detectors that ask for nothing but similarities of picture and caption."""

from __future__ import annotations

import torch

from ubt_utils.baselines.detectors.base import Detector, Scores
from ubt_utils.core.seeding import generator


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


def drop(scores: Scores) -> torch.Tensor:
    """Suffers most when its picture is disturbed [ours]: what UBT's pool is made of."""
    return scores.drop


def overfit(scores: Scores) -> torch.Tensor:
    """UBT's rank by s1 inside the pool [paper], read on held-out halves [ours]."""
    return torch.where(scores.pool, scores.overfit, -torch.inf)


def overfit_gain(scores: Scores) -> torch.Tensor:
    """s1 − s0 inside the pool [ours]."""
    return torch.where(scores.pool, scores.overfit - scores.public, -torch.inf)


FROM_SIMILARITIES: dict[str, Detector] = {
    f.__name__: f for f in (random, clipscore, similarity, gain, drop, overfit, overfit_gain)
}
