"""Nearest neighbors of a batch, and the local densities that outlier detectors ask for. Distances are
Euclidean."""

from __future__ import annotations

import torch


def nearest(points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest other points of each of (N, D), nearest first: distances (N, k) and indices (N, k).

    A point is not its own neighbor; its duplicates are. The matrix (N, N) is held: N is a batch. Raises
    ValueError unless 1 ≤ k < N.
    """
    n = len(points)
    if not 1 <= k < n:
        raise ValueError(f"{k} neighbors of {n} points: k must be between 1 and {n - 1}")
    norms = points.square().sum(1)
    squared = torch.addmm(norms[:, None], points, points.T, alpha=-2) + norms
    found = squared.fill_diagonal_(torch.inf).topk(k, dim=1, largest=False)
    return found.values.clamp(min=0).sqrt(), found.indices


def k_distance(distance: torch.Tensor) -> torch.Tensor:
    """(N,) distance to the k-th nearest neighbor, of distances (N, k)."""
    return distance[:, -1]


def dimensionality(distance: torch.Tensor) -> torch.Tensor:
    """(N,) local intrinsic dimensionality, the maximum-likelihood estimate of Amsaleg et al. (KDD 2015):
    −1 / mean log(d / d_k) over the k neighbors. Points on top of all their neighbors have 0."""
    ratio = distance / distance[:, -1:]
    mean = ratio.clamp(min=torch.finfo(distance.dtype).tiny).log().mean(1)
    return torch.where((distance[:, -1] > 0) & (mean < 0), -1 / mean, 0.0)


def slof(distance: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(N,) simplified local outlier factor (Schubert et al., 2014): mean over the neighbors of own k-distance
    / theirs."""
    return _compared(distance, index, torch.ones(len(distance), 1).to(distance))


def dao(distance: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(N,) dimensionality-aware outlier factor (Anderberg et al., 2024): as `slof`, each ratio raised to
    the neighbor's local intrinsic dimensionality."""
    return _compared(distance, index, dimensionality(distance)[index])


def _compared(distance: torch.Tensor, index: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    reach = k_distance(distance).clamp(min=torch.finfo(distance.dtype).eps)
    return (reach[:, None] / reach[index]).pow(power).mean(1)
