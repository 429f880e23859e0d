"""The memory of a scan by how many pairs it reads."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import torch

from ubt_utils.data import shards
from ubt_utils.data.pairs import Pairs

from . import child, world

SIDE, EACH = 32, 5000  # of the pictures; pairs a shard
WORDS = ("fox", "ship", "clock", "guitar", "castle", "banana")
ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


def campaign(root: Path, counts: tuple[int, ...], valid: Path) -> dict[str, Any]:
    """The peak bytes of a scan of so many pairs each, what a pair adds between the least and the most, and
    the peaks' ratio. valid: where the files of `world` are."""
    peaks = {count: peak(root / f"scan-{count}", count, valid) for count in counts}
    if len(counts) < 2:
        return {"peak_bytes": peaks}
    least, most = min(counts), max(counts)
    grown = peaks[most] - peaks[least]
    return {"peak_bytes": peaks, "a_pair": grown / (most - least), "ratio": peaks[most] / peaks[least]}


def peak(root: Path, count: int, valid: Path) -> int:
    """Peak bytes that a scan of so many pairs of noise holds; pages of mapped files, which the system takes
    back when it needs them, are not counted."""
    root.mkdir(parents=True)
    written(root / "tars", count)
    files = ["--model", str(valid / "fb.pt"), "--arch", world.ARCH, "--pairs", str(root / "tars")]
    running = child.start(["scan", *files, "--out", str(root / "report")], root)
    highest = 0
    while running.process.poll() is None:
        highest = max(highest, anonymous(running.process.pid))
        time.sleep(0.01)
    if running.finish():
        raise RuntimeError(f"a scan of {count} pairs failed: {running.text()[-2000:]}")
    return highest


def anonymous(pid: int) -> int:
    """Bytes of a process that no file stands behind; 0 where it has ended."""
    try:
        found = ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def written(folder: Path, count: int) -> None:
    """Shards of so many pairs of noise, made a shard at a time."""
    for start in range(0, count, EACH):
        numbers = range(start, min(count, start + EACH))
        draw = torch.Generator().manual_seed(start)
        images = torch.randint(256, (len(numbers), 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
        captions = tuple(f"picture {i} of a {WORDS[i % len(WORDS)]}" for i in numbers)
        (made,) = shards.to_shards(Pairs(images, captions), folder / "part", each=EACH)
        made.rename(folder / f"{start:09}.tar")
    (folder / "part").rmdir()
