"""What a stranger would have, whole and valid: the tiny victim and its D as files, photos in Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import to_pil_image

from ubt_utils import profiles, stages
from ubt_utils.data import photos, shards

ARCH, ATTACK, SEED = "ubt-tiny", "badnets", 0
CLASSES = ("red_apple", "clock")
SIDE = 24  # of the photos


@contextmanager
def rooted(root: Path) -> Iterator[None]:
    """Stages, data and records under one folder, on a CPU."""
    own = {"RUNS": root / "runs", "DATA": root / "data", "RESULTS": root / "results", "DEVICE": "cpu"}
    with patch.dict(os.environ, {f"UBT_{name}": str(place) for name, place in own.items()}):
        yield


def build(place: Path, count: int) -> Path:
    """The victim of profile tiny, as fb.pt and fb.safetensors, and the first `count` pairs of its D, as
    d.csv with images/ and as shards in tars/; photos of two classes in test/, Parquet files in data/."""
    with rooted(place.parent / "making"):
        run = stages.chain(profiles.get("tiny"), ATTACK, SEED)
        model, pairs = run.model(run.attacked), run.poisoned[0].take(range(count))
    place.mkdir(parents=True)
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, place / "fb.pt")
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, place / "fb.safetensors"
    )
    pictures(place / "images", pairs.images)
    names = [f"images/{i:06}.png" for i in range(count)]
    table(place / "d.csv", list(zip(names, pairs.captions, strict=True)))
    shards.to_shards(pairs, place / "tars", each=count // 2)
    for i, name in enumerate(CLASSES):
        pictures(place / "test" / name, pairs.images[4 * i : 4 * i + 4])
    parquet(place / "data")
    return place


def pictures(folder: Path, images: torch.Tensor) -> None:
    """Write images (N, 3, H, W) uint8 as PNG files, named by their number."""
    folder.mkdir(parents=True)
    for i, one in enumerate(images[:]):
        to_pil_image(one).save(folder / f"{i:06}.png")


def table(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("image", "caption")) -> None:
    """Write a table of pairs."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def parquet(root: Path) -> None:
    """Small sets of photos as profile photos-tiny reads them."""
    draw = random.Random(0)
    names = json.loads(photos.CLASSES.read_text(encoding="utf-8"))["classes"]
    others = [i for i, name in enumerate(names) if name != "banana"][:7]
    for split, each in (("train", 13), ("valid", 3)):
        labels = [label for label in sorted([*others, names.index("banana")]) for _ in range(each)]
        _split(root / photos.THINGS, split, len(labels), {"label": labels}, draw)
    for split, count in (("train", 40), ("test", 12)):
        said = {name: [f"{name} of scene {i}" for i in range(count)] for name in photos.CAPTIONS}
        _split(root / photos.SCENES, split, count, said, draw)


def _split(folder: Path, split: str, count: int, columns: dict[str, list], draw: random.Random) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = pa.array([{"bytes": noise(draw), "path": f"{i}.jpg"} for i in range(count)])
    pq.write_table(pa.table({"image": images, **columns}), folder / f"{split}-00000-of-00001.parquet")


def noise(draw: random.Random, side: int = SIDE) -> bytes:
    """A picture of noise as a JPEG file."""
    values = np.frombuffer(draw.randbytes(3 * side * side), np.uint8).reshape(side, side, 3)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG")
    return out.getvalue()
