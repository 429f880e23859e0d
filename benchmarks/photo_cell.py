"""A cell of profile `photos` with the locked stages' memory and without it: processor seconds by stage.

    UBT_DATA=… python benchmarks/photo_cell.py              # a tenth of a cell; prints and records
    UBT_DATA=… python benchmarks/photo_cell.py --part 1     # a whole one

A cell is the victim of one attack, UBT on it, and the evaluation of f0, of the victim and of the defended
model. A part of a cell has that part of the profile's classes, of D's other photos and of all steps. Each way
runs in a process of its own and on one thread, the two one after the other; counted are the seconds that the
processor spent, since other programs may share it. f0 is drawn at random, since seconds do not depend on its
weights; detection believes any word, so that there is something to unlearn. Both ways must write the same
tensors, bit for bit.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import tyro
from torch import nn

from ubt_utils import profiles, stages
from ubt_utils.clip import locked
from ubt_utils.clip.recipe import Recipe
from ubt_utils.core import records
from ubt_utils.profiles import Profile

ATTACK, SEED = "badnets", 0
STAGES = {
    "attack": lambda run: run.attacked,
    "evaluate f0 and fb": lambda run: run.evaluated(),
    "suspect": lambda run: run.suspected,
    "overfit": lambda run: run.overfitted,
    "select": lambda run: run.selected,
    "unlearn": lambda run: run.defended(),
    "evaluate fu": lambda run: run.evaluated("ubt"),
}


def shortened(recipe: Recipe, part: float) -> Recipe:
    """The recipe with that part of its steps."""
    return replace(recipe, steps=max(1, round(part * recipe.steps)))


def part_of(photos: Profile, part: float) -> Profile:
    """A part of the profile's cell, from random weights."""
    sets = photos.sets
    return replace(
        photos,
        name="photo-cell",
        family="photo-cell",
        sets=replace(sets, classes=max(3, round(part * sets.classes)), scenes=1 - part * (1 - sets.scenes)),
        tower="",
        pretrain=None,
        finetune=shortened(photos.finetune, part),
        overfit=replace(photos.overfit, recipe=shortened(photos.overfit.recipe, part)),
        select=replace(photos.select, lost=-1.0, lost_of_many=-1.0),
        unlearn=replace(photos.unlearn, recipe=shortened(photos.unlearn.recipe, part)),
        gate=0.0,
    )


def forgetful(stages: Sequence[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """`locked.through` without a memory: nothing is looked up or named, but pictures pass equally many at a
    time, as there."""
    how = locked._by_equal_parts if locked._fixed(stages, images) else locked._computed
    return how(stages, images)


def measured(profile: Profile, remember: bool) -> dict[str, Any]:
    """Processor seconds of each stage, and the checksums of the tensors that it wrote."""
    torch.set_num_threads(1)
    memory = locked.Memory(room=locked.ROOM if remember else 0)
    found: dict[str, Any] = {"seconds": {}, "tensors": {}}
    with (
        tempfile.TemporaryDirectory() as runs,
        patch.dict(os.environ, UBT_RUNS=runs),
        patch.object(locked, "MEMORY", memory),
        patch.object(locked, "through", locked.through if remember else forgetful),
    ):
        run = stages.chain(profile, ATTACK, SEED)
        _ = run.pretrained, run.wild  # decoded before the clock starts
        for name, make in STAGES.items():
            start = time.process_time()
            stage = make(run)
            found["seconds"][name] = time.process_time() - start
            found["tensors"][name] = {k: v for k, v in stage.contents.items() if k.endswith(".safetensors")}
    return found | {"kept": len(memory.kept), "kept_bytes": memory.held}


def apart(profile: Profile, remember: bool) -> dict[str, Any]:
    """The same in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, profile, remember).result()


def main(part: float = 0.1) -> None:
    profile = part_of(profiles.get("photos"), part)
    ways = {name: apart(profile, remember) for name, remember in (("plain", False), ("memory", True))}
    seconds = {name: way["seconds"] for name, way in ways.items()}
    whole = {name: sum(of.values()) for name, of in seconds.items()}
    records.write_benchmark("photo_cell", {
        "profile": "photos", "part": part, "seconds": seconds, "whole": whole,
        "ratio": whole["memory"] / whole["plain"],
        "ratios": {name: s / seconds["plain"][name] for name, s in seconds["memory"].items()},
        "same": ways["plain"]["tensors"] == ways["memory"]["tensors"],
        "kept": ways["memory"]["kept"], "kept_bytes": ways["memory"]["kept_bytes"],
    })  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
