"""Photo sets in miniature, laid out as the public ones: what the tests of photos read."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ubt_utils.data.photos import CLASSES

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = json.loads(CLASSES.read_text())["classes"]
COLORS = ("red", "green", "blue", "yellow", "white", "black")


def encoded(seed: int, mode: str = "RGB", kind: str = "JPEG", side: int = 24) -> bytes:
    """A noisy picture as bytes of an image file."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (side, side, channels), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values.squeeze(), mode).save(out, kind)
    return out.getvalue()


def write(path: Path, images: list, columns: dict) -> Path:
    """One Parquet file with a column `image` and others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    struct = pa.array([{"bytes": b, "path": f"{i}.jpg"} for i, b in enumerate(images)], IMAGE)
    pq.write_table(pa.table({"image": struct, **columns}), path)
    return path


def labels(classes: int, target: str = "banana") -> list[int]:
    """The labels of the first classes and the target, as PhotoSets takes them."""
    others = [i for i, name in enumerate(NAMES) if name != target][: classes - 1]
    return sorted([*others, NAMES.index(target)])


def things(root: Path, split: str, classes: int, each: int, seed: int) -> Path:
    """A split of Tiny-ImageNet: `each` pictures of each class."""
    shown = [label for label in labels(classes) for _ in range(each)]
    images = [encoded(seed + i) for i in range(len(shown))]
    return write(root / "tiny-imagenet" / f"{split}-00000-of-00001.parquet", images, {"label": shown})


def scenes(root: Path, split: str, count: int, seed: int) -> Path:
    """A split of Flickr8k: pictures with five captions."""
    columns = {
        f"caption_{k}": [f"A {COLORS[(i + k) % 6]} dog plays in scene {i} ." for i in range(count)]
        for k in range(5)
    }
    images = [encoded(seed + i) for i in range(count)]
    return write(root / "flickr8k" / f"{split}-00000-of-00001.parquet", images, columns)


def whole(root: Path, classes: int = 8) -> Path:
    """Both sets, big enough for the profile photos-tiny."""
    things(root, "train", classes, 13, 0)
    things(root, "valid", classes, 3, 5000)
    scenes(root, "train", 40, 7000)
    scenes(root, "validation", 4, 8000)
    scenes(root, "test", 12, 9000)
    return root
