"""Detectors by the local density of picture embeddings (Huang et al., Detect-CLIP-Backdoor-Samples).

[related] k = 16, and a random batch is its own reference: where all of D were, dozens of poisoned
pairs would be each other's neighbors, and the densest of all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.ensemble import IsolationForest

from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.core.seeding import generator
from ubt_utils.kernels import neighbors

K, BATCH = 16, 1024
Density = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def in_batches(points: torch.Tensor, density: Density, k: int = K, batch: int = BATCH) -> torch.Tensor:
    """(N,) a density of each point (N, D) among a random batch of about `batch` points."""
    order = torch.randperm(len(points), generator=generator("density batches"))
    out = torch.zeros(len(points))
    for part in order.tensor_split(max(1, len(points) // batch)):
        out[part] = density(*neighbors.nearest(points[part], min(k, len(part) - 1)))
    return out


def k_distance(scores: Scores) -> torch.Tensor:
    """Far from its 16th neighbor [related]."""
    return in_batches(scores.embedded()[0], lambda distance, _: neighbors.k_distance(distance))


def dao(scores: Scores) -> torch.Tensor:
    """Dimensionality-aware outlier factor, the best one of that study [related]; here in the form of its
    authors, a mean of powers, where that study's code takes the mean of LID · log ratio."""
    return in_batches(scores.embedded()[0], neighbors.dao)


def slof(scores: Scores) -> torch.Tensor:
    """Simplified local outlier factor [related]."""
    return in_batches(scores.embedded()[0], neighbors.slof)


def lid(scores: Scores) -> torch.Tensor:
    """Local intrinsic dimensionality [related]."""
    return in_batches(scores.embedded()[0], lambda distance, _: neighbors.dimensionality(distance))


def isolation_forest(scores: Scores) -> torch.Tensor:
    """Isolated by few random cuts; scikit-learn's forest [related]."""
    points = scores.embedded()[0].numpy()
    return -torch.from_numpy(IsolationForest(random_state=0).fit(points).score_samples(points)).float()
