"""What the course asks of the machine: notebooks 00 to 04, one after another, with no stage there.

    python benchmarks/course.py --runs EMPTY_FOLDER --out FOLDER     # prints the seconds, records them

CPU seconds are those of the kernels, so that they tell the work and not what else the machine does, with
wall-clock seconds beside them. f0 comes with the kit. The executed notebooks are in the folder `out`, and
can be committed in place of a run of `make notebooks`. Raises ValueError where stages are there already.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import tyro

from ubt_utils.core import records
from ubt_utils.report import course, notebooks
from ubt_utils.report.exercises import pages


def spent() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(name: str, out: Path, profile: str) -> dict[str, float]:
    """Run one notebook; its CPU and wall-clock seconds."""
    before, start = spent(), time.perf_counter()
    notebooks.run(pages.FOLDER / f"{name}.ipynb", out / f"{name}.ipynb", profile)
    return {"cpu_seconds": spent() - before, "seconds": time.perf_counter() - start}


def main(runs: Path, out: Path, profile: str = "mini") -> None:
    if runs.exists() and any(runs.iterdir()):
        raise ValueError(f"{runs} is not empty: stages that are there would not be measured")
    os.environ["UBT_RUNS"] = str(runs.resolve())
    records.write_benchmark(
        "course", {"notebooks": {name: measured(name, out, profile) for name in course.COURSE}}
    )


if __name__ == "__main__":
    tyro.cli(main)
