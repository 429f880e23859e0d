"""Independent jobs in several processes, each with its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import joblib
import torch
from tqdm.auto import tqdm

from ubt_utils.core import provenance

Job = TypeVar("Job")
Result = TypeVar("Result")
PREFIX = "UBT_"


def each(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, label: str, unit: str
) -> list[Result]:
    """work(job) of all jobs, in their order; in `workers` processes where there are several. What runs and
    its results must be picklable, and know nothing of the others."""
    if workers < 1:
        raise ValueError(f"at least one worker is needed, got {workers}")
    with provenance.sharing(workers):
        done: Iterable[Result] = map(work, jobs)
        if workers > 1:
            threads = max(1, joblib.cpu_count() // workers)
            pool = joblib.Parallel(workers, return_as="generator", batch_size=1)
            settings = _settings()
            done = pool(joblib.delayed(_alone)(work, job, threads, settings) for job in jobs)
        return list(tqdm(done, label, total=len(jobs), unit=unit, mininterval=1))


def _settings() -> dict[str, str]:
    """This kit's variables."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def _alone(work: Callable[[Job], Result], job: Job, threads: int, settings: Mapping[str, str]) -> Result:
    torch.set_num_threads(threads)
    for name in _settings():  # joblib keeps its processes, with the variables of when they were started
        del os.environ[name]
    os.environ.update(settings)
    return work(job)
