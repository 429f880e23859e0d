"""What the kit survives: bad inputs, kills, full disks, several processes at once; and a scan's memory.

    python benchmarks/reliability.py                     # the whole campaign, and records it
    python benchmarks/reliability.py --kills 0 --full 0 --processes --pairs   # bad inputs alone

All runs are of the smallest model, in a folder of their own, on one thread. Bad inputs are made from valid
files by a seeded generator, see `faults/mutations.py`; a number and a kind make one again. Kills and full
disks come at random moments over all stages and over `scan` and `defend`; what the same command makes
afterwards is compared with an undisturbed run, file by file. The peak of a scan leaves out mapped files.

A part whose number is 0, or that names none, is left out, and what is recorded of it stays. Kills and full
disks are recorded one by one: the same command at the same commit goes on after the last of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import tyro
from faults import full, inputs, jobs, kills, memory, record, together, world

from ubt_utils.core import records


def parts(
    root: Path, seed: int, bad: int, kill: int, fill: int, processes: tuple[int, ...], pairs: tuple[int, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All parts that are asked for, by name, each as often as it has come further."""
    if bad:
        yield "inputs", inputs.campaign(root / "inputs", bad, seed)
    if kill or fill or processes or pairs:
        valid = world.build(root / "world" / "valid", jobs.PAIRS)
    if kill or fill or processes:
        whole = root / "whole"
        all_jobs = jobs.undisturbed(whole, jobs.jobs(valid))
        yield from (("kills", found) for found in kills.campaign(root, kill, seed, whole, all_jobs))
        yield from (("full", found) for found in full.campaign(root, fill, seed, whole, all_jobs))
        if processes:
            yield "together", together.campaign(root, processes, whole, all_jobs)
    if pairs:
        yield "memory", memory.campaign(root, pairs, valid)


def main(
    inputs: int = 200,
    kills: int = 100,
    full: int = 20,
    processes: tuple[int, ...] = (2, 4),
    pairs: tuple[int, ...] = (10_000, 100_000),  # of the scans whose memory is measured
    seed: int = 0,
) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for part, found in parts(Path(folder), seed, inputs, kills, full, processes, pairs):
            record.keep(part, seed, found)
    print(json.dumps(records.read_benchmark(record.NAME), indent=1))


if __name__ == "__main__":
    tyro.cli(main)
