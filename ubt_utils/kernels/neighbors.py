"""Nearest neighbors without the full distance matrix, and the local densities that outlier detectors ask for.

Distances are Euclidean. Memory is a block of rows times a block of columns, whatever N is.
"""

from __future__ import annotations

import torch

ROWS, COLUMNS = 2048, 8192


def nearest(
    points: torch.Tensor, k: int, rows: int = ROWS, columns: int = COLUMNS
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest other points of each of (N, D), nearest first: distances (N, k) and indices (N, k).

    A point is not its own neighbor; its duplicates are. Raises ValueError unless 1 ≤ k < N.
    """
    n = len(points)
    if not 1 <= k < n:
        raise ValueError(f"{k} neighbors of {n} points: k must be between 1 and {n - 1}")
    norms = points.square().sum(1)
    distance = points.new_empty(n, k)
    index = torch.empty(n, k, dtype=torch.long, device=points.device)
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        distance[part], index[part] = _nearest_of(points, norms, part, k, columns)
    return distance.clamp(min=0).sqrt(), index


def _nearest_of(
    points: torch.Tensor, norms: torch.Tensor, part: slice, k: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances (B, k) and indices (B, k) for one block of rows, merged over blocks of columns."""
    best, where = None, None
    for start in range(0, len(points), columns):
        stop = min(start + columns, len(points))
        squared = torch.addmm(norms[part, None], points[part], points[start:stop].T, alpha=-2)
        squared += norms[start:stop]
        own = range(max(part.start, start), min(part.stop, stop))
        if len(own):
            at = torch.arange(own.start, own.stop, device=points.device)
            squared[at - part.start, at - start] = torch.inf
        found = squared.topk(min(k, stop - start), dim=1, largest=False)
        values, places = found.values, found.indices + start
        if best is not None:
            values, places = torch.cat([best, values], 1), torch.cat([where, places], 1)
            found = values.topk(min(k, values.shape[1]), dim=1, largest=False)
            values, places = found.values, places.gather(1, found.indices)
        best, where = values, places
    return best, where


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
