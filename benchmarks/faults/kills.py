"""kill -9 at random moments: after the same command again, all has the bits of an undisturbed run."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from . import child, jobs

TRIES = 3  # for each wanted kill, since some come after the end


def campaign(root: Path, count: int, seed: int, whole: Path, all_jobs: list[jobs.Job]) -> dict[str, Any]:
    """Kill so many commands, every job in turn. How many were hit while they worked, where, and what was
    wrong after the second start."""
    draw = random.Random(f"{seed} kills")
    hit: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for number in range(TRIES * count):
        if hit.total() == count:
            break
        job = all_jobs[hit.total() % len(all_jobs)]
        if job.name not in seconds:
            seconds[job.name] = timed(job, whole, root / "kill")
        share = draw.random()
        if killed(job, whole, root / "kill", share * seconds[job.name]):
            hit[job.name] += 1
        if wrong := resumed(job, whole, root / "kill"):
            found.append({"number": number, "job": job.name, "share": share, "what": wrong})
    return {"killed": hit.total(), "by_job": dict(hit), "seconds": seconds, "found": found}


def timed(job: jobs.Job, whole: Path, root: Path) -> float:
    """Seconds that a job takes undisturbed, from when it begins to work."""
    running = child.start(jobs.words(job, root), jobs.prepared(job, whole, root))
    running.begun(root)
    start = time.monotonic()
    if status := running.finish():
        raise RuntimeError(f"{job.name} ends with {status}: {running.text()}")
    if wrong := jobs.compared(root, whole, job):
        raise RuntimeError(f"{job.name}, undisturbed in another process: {wrong}")
    return time.monotonic() - start


def killed(job: jobs.Job, whole: Path, root: Path, after: float) -> bool:
    """Kill a job so many seconds after it began to work; False where it had ended by then."""
    running = child.start(jobs.words(job, root), jobs.prepared(job, whole, root))
    running.begun(root)
    time.sleep(after)
    working = running.process.poll() is None
    running.kill()
    return working


def resumed(job: jobs.Job, whole: Path, root: Path) -> str:
    """Give the same command again: what is wrong with what it comes to; "" if nothing is."""
    running = child.start(jobs.words(job, root), root)
    status = running.finish()
    if status is None:
        return "hangs"
    return f"exit status {status}: {running.text()[-500:]}" if status else jobs.compared(root, whole, job)
