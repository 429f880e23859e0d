"""Neighbors against the full matrix, and densities against their definitions, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.kernels import neighbors


def full(points: torch.Tensor, k: int) -> np.ndarray:
    """(N, k) sorted distances to the other points, by the whole matrix."""
    x = points.double().numpy()
    matrix = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    np.fill_diagonal(matrix, np.inf)
    return np.sort(matrix, axis=1)[:, :k]


def cloud(n: int, d: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(st.integers(3, 40), st.integers(1, 12))
def test_neighbors_are_those_of_the_matrix_of_all_distances(n, k):
    points = cloud(n)
    k = min(k, n - 1)
    distance, index = neighbors.nearest(points, k)
    np.testing.assert_allclose(distance.numpy(), full(points, k), atol=1e-3)
    own = torch.arange(n)[:, None]
    assert (index != own).all() and all(len(set(row.tolist())) == k for row in index)
    again = (points[own] - points[index]).norm(dim=-1)
    torch.testing.assert_close(again, distance, atol=1e-3, rtol=0)


def test_duplicates_are_neighbors_at_distance_zero():
    distance, index = neighbors.nearest(torch.ones(4, 3), 2)
    assert distance.abs().max() < 1e-3 and (index != torch.arange(4)[:, None]).all()


@pytest.mark.parametrize("k", [0, 5, 9])
def test_too_many_neighbors_are_refused(k):
    with pytest.raises(ValueError, match=f"{k} neighbors of 5 points: k must be between 1 and 4"):
        neighbors.nearest(cloud(5), k)


def test_densities_by_their_definitions():
    k, points = 6, cloud(60)
    distance, index = neighbors.nearest(points.double(), k)
    d, i = full(points, k), index.numpy()
    np.testing.assert_allclose(distance.numpy(), d, atol=1e-6)
    reach = d[:, -1]
    dimension = np.array([-1 / np.mean([np.log(x / row[-1]) for x in row]) for row in d])
    slof = np.array([np.mean([reach[a] / reach[b] for b in i[a]]) for a in range(60)])
    dao = np.array([np.mean([(reach[a] / reach[b]) ** dimension[b] for b in i[a]]) for a in range(60)])
    np.testing.assert_allclose(neighbors.k_distance(distance).numpy(), reach, atol=1e-6)
    np.testing.assert_allclose(neighbors.dimensionality(distance).numpy(), dimension, rtol=1e-6)
    np.testing.assert_allclose(neighbors.slof(distance, index).numpy(), slof, rtol=1e-6)
    np.testing.assert_allclose(neighbors.dao(distance, index).numpy(), dao, rtol=1e-6)


def test_an_outlier_is_the_most_outlying_and_coinciding_points_are_not_nan():
    points = torch.cat([cloud(50), torch.full((1, 5), 30.0), torch.zeros(12, 5)])
    distance, index = neighbors.nearest(points, 5)
    assert neighbors.k_distance(distance).argmax() == 50
    for density in (neighbors.slof, neighbors.dao):
        assert density(distance, index).isfinite().all()
    assert neighbors.dimensionality(distance).isfinite().all()
