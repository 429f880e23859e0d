"""A disk that gets full at random moments: a message, nothing lost, and the same bits once there is room.

The disk is a small one in memory, mounted for one process alone (Linux's `unshare`).
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from . import child, inputs, jobs, kills

BLOCK = 4096
TRIES = 4  # for each wanted full disk, since some have room enough
MOUNT = 'mount -t tmpfs -o size=$1 none "$2" && cp -a "$3/." "$2" || exit 99; place=$2; back=$4; shift 4; '
RUN = '"$@"; status=$?; cp -a "$place/." "$back"; exit $status'


def campaign(root: Path, count: int, seed: int, whole: Path, all_jobs: list[jobs.Job]) -> dict[str, Any]:
    """So many full disks, every job in turn: how many, in which job, and what was wrong."""
    draw = random.Random(f"{seed} full")
    hit: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for number in range(TRIES * count):
        if hit.total() == count:
            break
        job = all_jobs[number % len(all_jobs)]
        share = draw.random()
        wrong = filled(job, whole, root / "full", share)
        if wrong is None:
            continue
        hit[job.name] += 1
        if wrong := wrong or kills.resumed(job, whole, root / "full"):
            found.append({"number": number, "job": job.name, "share": share, "what": wrong})
    return {"full": hit.total(), "by_job": dict(hit), "found": found}


def filled(job: jobs.Job, whole: Path, root: Path, share: float) -> str | None:
    """Run a job with room for a share of what it needs; what is wrong with how it ends, "" for nothing, None
    where the room was enough. The root is then as the job left it."""
    start, back = jobs.prepared(job, whole, root.with_name("before")), root.with_name("after")
    for place in (root, back):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    room = used(start) + int(share * (used(whole) - used(start))) + BLOCK
    before = ["unshare", "-rm", "bash", "-c", MOUNT + RUN, "full", str(room), *map(str, (root, start, back))]
    running = child.start(jobs.words(job, root), root, before)
    status = running.finish()
    if status == 99:
        raise RuntimeError(f"no small disk can be mounted here: {running.text()}")
    shutil.rmtree(root)
    back.rename(root)
    if status == 0:
        return None
    wrong = "hangs" if status is None else inputs.judged(status, running.text())
    return wrong and f"{wrong}: {running.text()[-500:]}"


def used(root: Path) -> int:
    """Bytes on a disk of whole blocks."""
    return sum(-(-p.lstat().st_size // BLOCK) * BLOCK for p in root.rglob("*") if p.is_file())
