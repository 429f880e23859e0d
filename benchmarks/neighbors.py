"""Neighbor densities in blocks against the full distance matrix: peak memory and time, one run.

    python benchmarks/neighbors.py            # prints the table and records it
    python benchmarks/neighbors.py --n 20000

k-distance and DAO of N random unit vectors of 512 dimensions, k = 16. The reference computes all N × N
distances at once, as one would write it: `torch.cdist`, the diagonal out, `topk`. Each side runs in a
process of its own; memory is the peak of its resident set less what it held before it began (data and
libraries).
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

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


def resident() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(work: Callable[[torch.Tensor], torch.Tensor], n: int) -> tuple[float, int, torch.Tensor]:
    """Seconds, peak bytes above the start, and the result."""
    points = torch.nn.functional.normalize(
        torch.randn(n, D, generator=torch.Generator().manual_seed(0)), dim=1
    )
    work(points[:64])  # what libraries allocate once
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = work(points)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return seconds, peak - before, result


def main(n: int = 50_000) -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        sides = {f.__name__: pool.apply(measure, (f, n)) for f in (blockwise, whole)}
    (fast, small, ours), (slow, large, theirs) = sides["blockwise"], sides["whole"]
    found = {
        "n": n, "d": D, "k": K,
        "seconds": {"blockwise": fast, "whole": slow}, "time_ratio": fast / slow,
        "peak_bytes": {"blockwise": small, "whole": large}, "memory_ratio": large / max(1, small),
        "largest_relative_difference": ((ours - theirs).abs() / theirs.abs()).max().item(),
    }  # fmt: skip
    report.write_benchmark("neighbors", found)


if __name__ == "__main__":
    tyro.cli(main)
