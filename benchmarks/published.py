"""The chain of profile `paper` end to end on a few hundred real photos: seconds and peak memory by stage.

    UBT_DATA=… python benchmarks/published.py               # prints and records
    UBT_DATA=… python benchmarks/published.py --pairs 500 --batch 64 --steps 16

Photos of Flickr8k, each with its first caption, are written twice: as a shard, as img2dataset writes it, and
as a table beside JPEG files. From the shard the whole chain runs, at 224 px, with 80 prompts a class, by the
published schedule and decay; from the table as far as the victim, who must be the same, bit for bit: nobody
reads the source after that. The test is Tiny-ImageNet's validation photos of some classes.

What is not as published: RN50's weights are drawn at random, since none are at hand, so that accuracy and ASR
mean nothing; the photos are smaller than 224 px, and enlarged; D, batch and steps are small, more of D is
poisoned, a fifth of it is disturbed, in two ways of six, and detection believes any word, so that every stage
has work. A stage runs in a process of its own, and its memory is the most that the system has seen of it,
libraries included.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import peak
import torch
import tyro
import webdataset

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.core.store import Stage
from ubt_utils.data import photos, tars
from ubt_utils.profiles import Profile

ATTACK, SEED = "badnets", 0
FAMILY = ("blur", "pale")  # of the six disturbances
SHARDS, TABLE, TEST = "shards", "table", "test"
STAGES: dict[str, Callable[[stages.Chain], Stage]] = {
    "pretrain": lambda run: run.pretrained,
    "attack": lambda run: run.attacked,
    "suspect": lambda run: run.suspected,
    "overfit": lambda run: run.overfitted,
    "select": lambda run: run.selected,
    "unlearn": lambda run: run.defended(),
    "evaluate f0 and fb": lambda run: run.evaluated(),
    "evaluate fu": lambda run: run.evaluated("ubt"),
}

FROM = {SHARDS: tuple(STAGES), TABLE: ("pretrain", "attack")}


def write(root: Path, pairs: int, classes: int, each: int) -> tuple[str, ...]:
    """The pairs as a shard and as a table, and `each` test photos of so many classes; their names."""
    table = photos.read(photos.SCENES, "train", photos.CAPTIONS[:1])
    (root / TABLE / "images").mkdir(parents=True)
    (root / SHARDS).mkdir()
    rows = [("image", "caption")]
    with webdataset.TarWriter(str(root / SHARDS / "00000.tar")) as shard:
        for i in range(pairs):
            name, caption = f"{i:06}", table.columns[photos.CAPTIONS[0]][i].decode().strip()
            (root / TABLE / "images" / f"{name}.jpg").write_bytes(table.images[i])
            rows.append((f"images/{name}.jpg", caption))
            shard.write({"__key__": name, "jpg": table.images[i], tars.CAPTION: caption.encode()})
    with (root / TABLE / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return _test(root / TEST, classes, each)


def _test(root: Path, classes: int, each: int) -> tuple[str, ...]:
    sets = photos.PhotoSets(classes=classes, target=profiles.PAPER.sets.target)
    table = photos.read(photos.THINGS, "valid", ["label"])
    for label, name in sets._labels().items():
        (root / name).mkdir(parents=True)
        rows = [i for i, found in enumerate(table.columns["label"]) if found == label][:each]
        for i in rows:
            (root / name / f"{i}.jpg").write_bytes(table.images[i])
    return tuple(sets.class_names())


def small(
    paper: Profile, pairs: int, batch: int, steps: int, classes: tuple[str, ...], source: str
) -> Profile:
    """`paper` on so many pairs of a source, from random weights; its schedules, decay and prompts stay."""
    short = {"batch": batch, "steps": steps}
    once = {"batch": batch, "steps": 1}
    return replace(
        paper,
        name=f"published-{source}",
        family=f"published-{source}",
        sets=replace(paper.sets, pairs=source, test=TEST, limit=pairs, classes=classes),
        weights="",
        pretrain=None,
        finetune=replace(paper.finetune, **short, warmup=min(paper.finetune.warmup, steps // 4)),
        overfit=replace(paper.overfit, recipe=replace(paper.overfit.recipe, **once), reads=1),
        suspect=replace(paper.suspect, family=FAMILY, weak=0.2, pool=0.15),
        select=replace(paper.select, top=8, voters=(32,), least=3, votes=1, lost=-1.0, lost_of_many=-1.0),
        unlearn=replace(paper.unlearn, recipe=replace(paper.unlearn.recipe, **once)),
        baseline=replace(paper.baseline, batch=batch),
        poison_rate=0.08,
        gate=0.0,
    )


def measured(profile: Profile, name: str) -> dict[str, Any]:
    """One stage, those before it being there: seconds, bytes, and the checksums of the tensors it wrote."""
    run, make = stages.chain(profile, ATTACK, SEED), STAGES[name]
    torch.set_num_threads(1)
    before, start = peak.resident(), time.perf_counter()
    stage = make(run)
    return {
        "seconds": time.perf_counter() - start,
        "peak_bytes": peak.highest(),
        "start_bytes": before,
        "tensors": {k: v for k, v in stage.contents.items() if k.endswith(".safetensors")},
    }


def apart(profile: Profile, name: str) -> dict[str, Any]:
    """The same in a process of its own."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["ubt_utils.stages"])  # is imported once, and not by every stage
    with ProcessPoolExecutor(1, server) as pool:
        return pool.submit(measured, profile, name).result()


def all_of(paper: Profile, pairs: int, batch: int, steps: int, classes: int, each: int) -> dict[str, Any]:
    """What `measured` says of each stage, on the same pairs from a shard and from a table."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        names = write(Path(folder), pairs, classes, each)
        with patch.dict(os.environ, UBT_DATA=folder, UBT_RUNS=f"{folder}/runs"):
            for source, made in FROM.items():
                profile = small(paper, pairs, batch, steps, names, source)
                found[source] = {name: apart(profile, name) for name in made}
    return found


def main(
    pairs: int = 200, batch: int = 16, steps: int = 4, classes: int = 3, each: int = 4, model: str = ""
) -> None:
    paper = profiles.get("paper")
    paper = replace(paper, model=model or paper.model)
    side = models.architecture(paper.model)["vision_cfg"]["image_size"]
    found = all_of(replace(paper, sets=replace(paper.sets, size=side)), pairs, batch, steps, classes, each)
    tensors = {source: {name: one.pop("tensors") for name, one in of.items()} for source, of in found.items()}
    entry = {
        "model": paper.model, "side": side, "pairs": pairs, "batch": batch, "steps": steps,
        "test": classes * each, "prompts": classes * len(paper.sets.templates), "stages": found,
        "same": {name: tensors[SHARDS][name] == tensors[TABLE][name] for name in FROM[TABLE]},
    }  # fmt: skip
    records.write_benchmark("published", entry)


if __name__ == "__main__":
    tyro.cli(main)
