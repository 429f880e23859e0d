"""Scoring pairs at the rate of the bare encoder: ratios of one run.

    python benchmarks/scoring.py                 # prints the table and records it
    python benchmarks/scoring.py --pairs 16 --turns 1
    python benchmarks/scoring.py --pairs 8192    # on a GPU

`scoring.similarity` of pictures that lie as bytes in a mapped file, as shards are stored, against the
encoders' forward pass on batches of the same size that lie ready, normalized, on the device; RN50 at 224 px,
captions of the same length for both. The two take turns; the ratio is that of the median times.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import tyro

from ubt_utils.clip import models
from ubt_utils.clip.scoring import BATCH, similarity
from ubt_utils.core import device, records
from ubt_utils.data.pictures import Pictures

MODEL, SIDE = "RN50-quickgelu", 224


def mapped(folder: Path, pairs: int) -> Pictures:
    """So many random pictures in a file, read when asked for."""
    shape = (pairs, 3, SIDE, SIDE)
    file = np.memmap(folder / "pictures", np.uint8, "w+", shape=shape)
    file[:] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file.flush()
    stored = torch.from_numpy(np.memmap(folder / "pictures", np.uint8, "c", shape=shape))
    return Pictures.of(stored, "benchmark")


def ways(images: Pictures) -> dict[str, Callable[[], object]]:
    """Both ways to encode the same pairs with the same model."""
    model, where = models.create(MODEL, 0).eval(), device.pick()
    tokens = models.tokenize(MODEL, [f"a photo of thing number {i}" for i in range(len(images))])
    ready = [models.normalize(model, part.to(where).float() / 255) for part in images.split(BATCH)]
    texts = tokens.to(where)

    @torch.no_grad()
    def bare() -> None:
        with models.autocast(model):
            for part in ready:
                model.encode_image(part)
            models.encode_text(model, texts)
        if where.type == "cuda":
            torch.cuda.synchronize()

    return {"bare": bare, "scoring": lambda: similarity(model, images, tokens)}


def rate(pairs: int, turns: int) -> dict[str, object]:
    """Pairs a second of both ways, and what part of the bare rate scoring reaches."""
    seconds: dict[str, list[float]] = {"bare": [], "scoring": []}
    with tempfile.TemporaryDirectory() as folder:
        both = ways(mapped(Path(folder), pairs))
        for turn in range(-1, turns):  # the first turn warms up
            for name, work in both.items():
                start = time.perf_counter()
                work()
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    each = {name: pairs / s for name, s in middle.items()}
    return {
        "pairs": pairs,
        "turns": turns,
        "pairs_per_second": each,
        "ratio": middle["bare"] / middle["scoring"],
    }


def main(pairs: int = 64, turns: int = 7) -> None:
    records.write_benchmark("scoring", {"model": MODEL, "side": SIDE, **rate(pairs, turns)})


if __name__ == "__main__":
    tyro.cli(main)
