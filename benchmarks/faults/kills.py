"""kill -9 at random moments: after the same command again, all has the bits of an undisturbed run."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from . import child, jobs, record

Found: TypeAlias = dict[str, Any]
TRIES = 3  # for each wanted kill, since some come after the end


def campaign(root: Path, count: int, seed: int, whole: Path, all_jobs: list[jobs.Job]) -> Iterator[Found]:
    """Kill so many commands, every job in turn, and after each tell how many were tried, how many were hit
    while they worked, in which job, and what was wrong after the second start. What the record has of it is
    not done again."""
    found = {"tried": 0, "killed": 0, "by_job": {}, "found": []} | record.begun("kills", seed)
    seconds: dict[str, float] = {}
    while found["killed"] < count and found["tried"] < TRIES * count:
        number, job = found["tried"], all_jobs[found["killed"] % len(all_jobs)]
        if job.name not in seconds:
            seconds[job.name] = timed(job, whole, root / "kill")
        share = random.Random(f"{seed} kills {number}").random()
        hit = killed(job, whole, root / "kill", share * seconds[job.name])
        found = counted(found, "killed", job.name, hit)
        if wrong := resumed(job, whole, root / "kill"):
            found["found"].append({"number": number, "job": job.name, "share": share, "what": wrong})
        yield found


def counted(found: Found, what: str, job: str, hit: bool) -> Found:
    """The same after one more try, which has hit a job or has not."""
    by_job = found["by_job"] | ({job: found["by_job"].get(job, 0) + 1} if hit else {})
    return found | {"tried": found["tried"] + 1, what: found[what] + hit, "by_job": by_job}


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
    working = running.works()
    running.kill()
    return working


def resumed(job: jobs.Job, whole: Path, root: Path) -> str:
    """Give the same command again: what is wrong with what it comes to; "" if nothing is."""
    running = child.start(jobs.words(job, root), root)
    status = running.finish()
    if status is None:
        return "hangs"
    return f"exit status {status}: {running.text()[-500:]}" if status else jobs.compared(root, whole, job)
