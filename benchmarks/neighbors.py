"""Neighbor densities in blocks against the full distance matrix: peak memory and time, one run.

    python benchmarks/neighbors.py            # prints the table and records it
    python benchmarks/neighbors.py --n 20000

k-distance and DAO of N random unit vectors of 512 dimensions, k = 16. The reference computes all N × N
distances at once, as one would write it: `torch.cdist`, the diagonal out, `topk`.
"""

from __future__ import annotations

from functools import partial

import peak
import torch
import tyro

from ubt_utils import report
from ubt_utils.kernels import neighbors

D, K = 512, 16


def blockwise(points: torch.Tensor) -> torch.Tensor:
    distance, index = neighbors.nearest(points, K)
    return torch.stack([neighbors.k_distance(distance), neighbors.dao(distance, index)])


def whole(points: torch.Tensor) -> torch.Tensor:
    matrix = torch.cdist(points, points)
    matrix.fill_diagonal_(torch.inf)
    found = matrix.topk(K, dim=1, largest=False)
    return torch.stack([neighbors.k_distance(found.values), neighbors.dao(found.values, found.indices)])


def points(n: int) -> tuple[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (torch.nn.functional.normalize(torch.randn(n, D, generator=draw), dim=1),)


def main(n: int = 50_000) -> None:
    sides = peak.in_turn((blockwise, whole), partial(points, n), partial(points, 64))
    apart = (sides["blockwise"].result - sides["whole"].result).abs() / sides["whole"].result.abs()
    # Where two neighbors are equally far to the last bit, each side may take the other one, and DAO with it.
    told = {
        "largest_relative_difference": dict(zip(("k_distance", "dao"), apart.amax(1).tolist(), strict=True)),
        "dao_within_1e-4": (apart[1] <= 1e-4).float().mean().item(),
    }
    found = {"n": n, "d": D, "k": K, **peak.compared(sides), **told}
    report.write_benchmark("neighbors", found)


if __name__ == "__main__":
    tyro.cli(main)
