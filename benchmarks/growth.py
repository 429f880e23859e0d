"""What every stage costs as D grows, on one rank and on two, a CPU thread each.

    python benchmarks/growth.py                  # prints the exponents and records all seconds
    python benchmarks/growth.py --sizes 1 2 --processes 1

Profile mini with 1, 4 and 16 paintings of each drawing in D; the victim trains for two passes, everything
else stays. Each size and number of ranks is a launch of torchrun of its own with runs of its own, so that no
stage is reused. f0 is read from its file, and not counted: it does not see D. "score D" is one similarity
per pair; `suspect` asks for it seven times, six of them of disturbed pictures. Wall-clock seconds, of all
that a stage does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import tyro

from ubt_utils import profiles, stages
from ubt_utils.clip import models, scoring
from ubt_utils.core import distributed, records
from ubt_utils.report import benchmark_tables

ATTACK, SEED, PASSES = "badnets", 0, 2
DRAWINGS = 2948  # of the two vendors of D


def profile_of(copies: int) -> profiles.Profile:
    """mini with so many paintings a drawing, and as many passes over them."""
    mini = profiles.get("mini")
    return replace(
        mini,
        gate=0.0,
        sets=replace(mini.sets, wild_copies=copies),
        finetune=replace(mini.finetune, steps=round(PASSES * copies * DRAWINGS / mini.finetune.batch)),
    )


def measure(copies: int, out: Path) -> None:
    """Run all stages of one size on the ranks of this launch; the first one writes the seconds."""
    profile = profile_of(copies)
    run = stages.chain(profile, ATTACK, SEED)
    public = run.model(run.pretrained)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        distributed.wait()
        start = time.perf_counter()
        found = work()
        distributed.wait()
        seconds[name] = time.perf_counter() - start
        return found

    pairs, _ = timed("make D", lambda: stages.wild(profile.sets, SEED))
    tokens = models.tokenize(profile.model, pairs.captions)
    timed("score D", lambda: scoring.similarity(public, pairs.images, tokens))
    timed("attack", lambda: run.attacked)
    timed("suspect", lambda: run.suspected)
    timed("overfit", lambda: run.overfitted)
    timed("select", lambda: run.selected)
    timed("unlearn", lambda: run.defended("ubt"))
    timed("evaluate", lambda: run.evaluated("ubt"))
    if distributed.first():
        out.write_text(json.dumps({"pairs": len(pairs), "seconds": seconds}))


def launch(copies: int, count: int) -> list[dict[str, object]]:
    """Rows {stage, ranks, pairs, seconds} of one size on `count` ranks, in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={count}",
        ]
        command = [*torchrun, __file__, "--measure", str(copies), f"{folder}/found.json"]
        own = {"UBT_RUNS": f"{folder}/runs", "UBT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env={**os.environ, **own}, check=True)
        found = json.loads(Path(folder, "found.json").read_text())
    return [
        {"stage": name, "ranks": count, "pairs": found["pairs"], "seconds": s}
        for name, s in found["seconds"].items()
    ]


def main(sizes: tuple[int, ...] = (1, 4, 16), processes: tuple[int, ...] = (1, 2)) -> None:
    rows = [row for count in processes for copies in sizes for row in launch(copies, count)]
    records.write_benchmark(benchmark_tables.GROWTH, {"attack": ATTACK, "passes": PASSES, "measured": rows})
    print(benchmark_tables.summary(pd.DataFrame(rows)).round(2).to_string())


if __name__ == "__main__":
    if "--measure" in sys.argv:  # a process that `launch` has started
        measure(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        tyro.cli(main)
