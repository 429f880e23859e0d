"""Undecoded image–caption rows from webdataset shards (as img2dataset writes them) and from CSV files."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import webdataset
from torchvision.transforms.functional import to_pil_image

from ubt_utils.checksum import sha256_of
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.photos import PhotoError

IMAGES = ("jpg", "jpeg", "png", "webp")  # the extensions that a shard's pictures may have
CAPTION = "txt"
TAR_BLOCK = 512


class Row(NamedTuple):
    """One pair before decoding: the picture's bytes, the caption's, and where it comes from."""

    image: bytes | None
    caption: bytes | None
    name: str


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)


def fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over the files' bytes, in order: what a store depends on."""
    h = hashlib.sha256()
    for path in paths:
        told = path.stat()
        h.update(_digest(path, told.st_size, told.st_mtime_ns).encode())
    return h.hexdigest()


def shards(folder: Path) -> list[Path]:
    """The shards of a folder, in order. Raises PhotoError where there are none, or where one was not
    written to its end: webdataset would read it as a shorter one."""
    found = sorted(folder.glob("*.tar"))
    if not found:
        raise PhotoError(
            f"no shards (*.tar) under {folder}: fetch some with ./data_download.sh paper, or write them with "
            "img2dataset --output_format webdataset"
        )
    for path in found:
        if not _ends(path):
            raise PhotoError(
                f"{path} is truncated: a shard ends with two empty blocks. Delete it and fetch it again"
            )
    return found


def _ends(path: Path) -> bool:
    size = path.stat().st_size
    if size < 2 * TAR_BLOCK or size % TAR_BLOCK:
        return False
    with path.open("rb") as file:
        file.seek(-2 * TAR_BLOCK, 2)
        return not any(file.read())


def from_shards(paths: Sequence[Path]) -> Iterator[Row]:
    """The rows of shards, in order. Nothing but pictures and captions is read, nothing is unpickled."""
    for path in paths:
        samples = webdataset.WebDataset(
            [str(path.resolve())], shardshuffle=False, nodesplitter=None, empty_check=False
        )  # of several ranks the first reads all: see shard_sets
        for sample in samples:
            image = next((sample[kind] for kind in IMAGES if kind in sample), None)
            yield Row(image, sample.get(CAPTION), f"{path.name}, {sample['__key__']}")


def from_csv(path: Path, image: str = "image", caption: str = "caption") -> Iterator[Row]:
    """The rows of a CSV file with a column of picture paths and one of captions, as CLIP's peers keep them.

    Paths are relative to the file's folder, and must stay inside it. Raises PhotoError for other columns,
    and for a file that is no CSV.
    """
    for number, row in enumerate(_table(path, {image, caption}), start=2):
        place, told = _inside(path.parent, row[image] or ""), (row[caption] or "").encode()
        yield Row(place.read_bytes() if place else None, told, f"{path.name}, line {number}")


def listing(path: Path, image: str = "image") -> str:
    """A checksum of a CSV file, and of the names and sizes of the pictures that it names."""
    h = hashlib.sha256(path.read_bytes())
    for row in _table(path, {image}):
        place = _inside(path.parent, row[image] or "")
        h.update(f"{row[image]} {place.stat().st_size if place else None}\n".encode())
    return h.hexdigest()


def _table(path: Path, columns: set[str]) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            table = csv.DictReader(file)
            if missing := columns - set(table.fieldnames or ()):
                raise PhotoError(f"{path} has the columns {table.fieldnames}, but not {sorted(missing)}")
            yield from table
        except (csv.Error, UnicodeDecodeError) as error:
            raise PhotoError(f"{path}, line {table.line_num + 1}: not CSV in UTF-8 ({error})") from error


def _inside(folder: Path, name: str) -> Path | None:
    """The file of that name, unless it lies outside the folder or is not there."""
    try:
        place = (folder / name).resolve()
        return place if place.is_relative_to(folder.resolve()) and place.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def to_shards(pairs: Pairs, folder: Path, each: int = 1000) -> list[Path]:
    """Write pairs as shards of `each`, pictures as PNG, which loses nothing; the files, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder.resolve() / "%05d.tar")
    with webdataset.ShardWriter(pattern, maxcount=each, verbose=0) as writer:
        for i, caption in enumerate(pairs.captions):
            picture = io.BytesIO()
            to_pil_image(pairs.images[i : i + 1][0]).save(picture, "PNG")
            writer.write({"__key__": f"{i:09}", "png": picture.getvalue(), CAPTION: caption.encode()})
    return shards(folder)
