"""Several processes on one stage and on one table: the same bits, and no row lost."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils.core import records

from . import child, jobs

ROWS = 20  # that each process adds to the table
KEYS = ["process", "row"]


def campaign(root: Path, counts: tuple[int, ...], whole: Path, all_jobs: list[jobs.Job]) -> dict[str, Any]:
    """Each job by so many processes at once, and a table by as many: what was wrong."""
    found = []
    for count in counts:
        for job in all_jobs:
            if wrong := at_once(job, count, whole, root / "together"):
                found.append({"processes": count, "job": job.name, "what": wrong})
        if lost := count * ROWS - merged(root / f"table-{count}" / "t.parquet", count):
            found.append({"processes": count, "job": "table", "what": f"{lost} rows lost"})
    return {"processes": list(counts), "jobs": len(all_jobs), "rows": ROWS, "found": found}


def at_once(job: jobs.Job, count: int, whole: Path, root: Path) -> str:
    """Start a job so many times at once: what is wrong; "" if nothing is."""
    jobs.prepared(job, whole, root)
    running = [child.start(jobs.words(job, root), root) for _ in range(count)]
    ends = [one.finish() for one in running]
    if any(end != 0 for end in ends):
        return f"exit statuses {ends}: {running[0].text()[-500:]}"
    return jobs.compared(root, whole, job)


def merged(path: Path, count: int) -> int:
    """Rows of a table that so many processes have merged theirs into, a row at a time."""
    spawn = multiprocessing.get_context("spawn")
    running = [spawn.Process(target=merge, args=(path, number)) for number in range(count)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return len(pd.read_parquet(path))


def merge(path: Path, number: int) -> None:
    """Merge the rows of one process."""
    for row in range(ROWS):
        records.merge(path, pd.DataFrame([{"process": number, "row": row}]), KEYS)
