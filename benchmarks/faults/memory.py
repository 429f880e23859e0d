"""The memory of a scan by how many pairs it reads."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ubt_utils.data import shards
from ubt_utils.data.pairs import Pairs

from . import child, world

SIDE, EACH = 32, 5000  # of the pictures; pairs a shard
WORDS = ("fox", "ship", "clock", "guitar", "castle", "banana")
ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


def campaign(root: Path, counts: tuple[int, ...], valid: Path) -> dict[str, Any]:
    """By number of pairs the peak bytes of a scan, and the bytes of its scores; of the most pairs and the
    least the ratio of the peaks, and that without the scores. valid: where the files of `world` are."""
    roots = {count: root / f"scan-{count}" for count in counts}
    peaks = {count: peak(place, count, valid) for count, place in roots.items()}
    held = {count: scores(place / "runs", count) for count, place in roots.items()}
    least, most = min(counts), max(counts)
    return {
        "peak_bytes": peaks,
        "scores_bytes": held,
        "ratio": peaks[most] / peaks[least],
        "ratio_but_for_scores": (peaks[most] - held[most]) / (peaks[least] - held[least]),
    }


def scores(runs: Path, count: int) -> int:
    """Bytes of all tensors with a number for each of so many pairs that the stages of a scan hand on."""
    held = (load_file(path) for path in runs.rglob("arrays.safetensors"))
    return sum(value.nbytes for arrays in held for value in arrays.values() if count in value.shape)


def peak(root: Path, count: int, valid: Path) -> int:
    """Peak bytes that a scan of so many pairs of noise holds; pages of mapped files, which the system takes
    back when it needs them, are not counted."""
    root.mkdir(parents=True)
    written(root / "tars", count)
    files = ["--model", str(valid / "fb.pt"), "--arch", world.ARCH, "--pairs", str(root / "tars")]
    running = child.start(["scan", *files, "--out", str(root / "report")], root, child.FRESH)
    highest = 0
    while running.works():
        highest = max(highest, anonymous(running.process.pid or 0))
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
