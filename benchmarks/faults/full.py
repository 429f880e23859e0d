"""A disk that gets full at random moments: a message, nothing lost, and the same bits once there is room.

The disk is a small one in memory, mounted for one process alone (Linux's `unshare`).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from . import child, inputs, jobs, kills, record, world

BLOCK = 4096
NO_DISK, HANGS = 99, 137  # exit statuses
TRIES = 4  # for each wanted full disk, since some have room enough
MOUNT = 'mount -t tmpfs -o size=$1 none "$2" && cp -a "$3/." "$2" || exit $5; place=$2; back=$4; shift 5; '
RUN = f'timeout -s KILL {child.LIMIT} "$@"; status=$?; cp -a "$place/." "$back"; exit $status'


def campaign(
    root: Path, count: int, seed: int, whole: Path, all_jobs: list[jobs.Job]
) -> Iterator[kills.Found]:
    """So many full disks, every job in turn, and after each how many were tried and got full, in which job,
    and what was wrong. What the record has of it is not done again."""
    found = {"tried": 0, "full": 0, "by_job": {}, "found": []} | record.begun("full", seed)
    while found["full"] < count and found["tried"] < TRIES * count:
        number, job = found["tried"], all_jobs[found["tried"] % len(all_jobs)]
        share = random.Random(f"{seed} full {number}").random()
        wrong = filled(job, whole, root / "full", share)
        found = kills.counted(found, "full", job.name, wrong is not None)
        if wrong is not None and (wrong := wrong or kills.resumed(job, whole, root / "full")):
            found["found"].append({"number": number, "job": job.name, "share": share, "what": wrong})
        yield found


def filled(job: jobs.Job, whole: Path, root: Path, share: float) -> str | None:
    """Run a job with room for a share of what it needs; what is wrong with how it ends, "" for nothing, None
    where the room was enough. The root is then as the job left it."""
    start, back = jobs.prepared(job, whole, root.with_name("before")), root.with_name("after")
    for place in (root, back):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    room = used(start) + int(share * (used(whole) - used(start))) + BLOCK
    small = [
        "unshare",
        "-rm",
        "bash",
        "-c",
        MOUNT + RUN,
        "full",
        *map(str, (room, root, start, back, NO_DISK)),
    ]
    command = [*small, sys.executable, "-m", "ubt_utils", *jobs.words(job, root)]
    with world.rooted(root):
        done = subprocess.run(
            command,
            env={**os.environ, **child.QUIET},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    if done.returncode == NO_DISK:
        raise RuntimeError(f"no small disk can be mounted here: {done.stdout}")
    shutil.rmtree(root)
    back.rename(root)
    if done.returncode == 0:
        return None
    wrong = "hangs" if done.returncode == HANGS else inputs.judged(done.returncode, done.stdout)
    return wrong and f"{wrong}: {done.stdout[-500:]}"


def used(root: Path) -> int:
    """Bytes on a disk of whole blocks."""
    return sum(-(-p.lstat().st_size // BLOCK) * BLOCK for p in root.rglob("*") if p.is_file())
