"""Independent jobs in several processes, with progress and time left."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch
from tqdm.auto import tqdm

Job, Result = TypeVar("Job"), TypeVar("Result")


def _share(workers: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def each(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, label: str, unit: str
) -> list[Result]:
    """`work` of every job, in their order; each of the `workers` processes gets its share of the cores.

    work and jobs must be picklable. What one job raises ends the run, once those under way are done.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _share, (workers,)) as pool:
        asked = [pool.submit(work, job) for job in jobs]
        try:
            for done in tqdm(as_completed(asked), label, len(asked), unit=unit):
                done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in asked]
