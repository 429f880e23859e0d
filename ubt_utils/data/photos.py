"""Photos in Parquet files, laid out as the public hub copies of Tiny-ImageNet and Flickr8k."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms.functional import pil_to_tensor

from ubt_utils.checksum import sha256_of
from ubt_utils.runs import ROOT

TOLERATED = 0.01  # the part of the rows read that may be unusable
TOLD = 5  # unusable rows named in a message


class PhotoError(ValueError):
    """A data set that is missing, damaged, or laid out otherwise than expected."""


def root() -> Path:
    """Where data sets live: `data/` of the checkout, or the folder in UBT_DATA."""
    return Path(os.environ.get("UBT_DATA", ROOT / "data"))


@dataclass(frozen=True)
class Table:
    """The rows of one split, undecoded. images: N byte strings. columns: the other columns,
    each N values. names: N strings, where each row comes from."""

    images: Sequence[bytes | None]
    columns: dict[str, list]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Skipped:
    """Rows that could not be used, with the reason; too many of them end the run."""

    rows: list[str] = field(default_factory=list)

    def add(self, name: str, reason: object) -> None:
        """Note one unusable row."""
        self.rows.append(f"{name}: {reason}")

    def settle(self, total: int) -> None:
        """Warn of the unusable rows; PhotoError when they are more than 1 % of `total`."""
        if not self.rows:
            return
        listed = "; ".join(self.rows[:TOLD]) + ("; …" if len(self.rows) > TOLD else "")
        message = f"{len(self.rows)} of {total} rows cannot be used: {listed}"
        if len(self.rows) > TOLERATED * total:
            raise PhotoError(
                f"{message}. More than {TOLERATED:.0%}: get the data again with data_download.sh"
            )
        warnings.warn(f"{message}. They are left out.", stacklevel=3)


def files(folder: str, split: str) -> list[Path]:
    """The Parquet files of one split, in order; PhotoError says how to get missing ones."""
    found = sorted((root() / folder).glob(f"{split}-*.parquet"))
    if not found:
        raise PhotoError(
            f"no {split} files of {folder} under {root()}: get them with `./data_download.sh photos`, "
            "or name their folder in the variable UBT_DATA"
        )
    return found


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)


def fingerprint(folder: str, splits: Sequence[str]) -> str:
    """SHA-256 over the files of the splits: what a result depends on."""
    h = hashlib.sha256()
    for split in splits:
        for path in files(folder, split):
            told = path.stat()
            h.update(f"{split} {_digest(path, told.st_size, told.st_mtime_ns)}\n".encode())
    return h.hexdigest()


def read(folder: str, split: str, columns: Sequence[str]) -> Table:
    """All rows of one split. Raises PhotoError for a truncated file or other columns."""
    images: list[bytes | None] = []
    values: dict[str, list] = {name: [] for name in columns}
    names: list[str] = []
    for path in files(folder, split):
        table = _read_file(path, columns)
        names += [f"{path.name}, row {i}" for i in range(len(table))]
        images += table.column("image").combine_chunks().field("bytes").to_pylist()
        for name in columns:
            values[name] += _plain(table.column(name))
    return Table(images, values, names)


def _read_file(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        schema = pq.read_schema(path)
        wanted = ("image", *columns)
        if missing := [name for name in wanted if name not in schema.names]:
            raise PhotoError(f"{path} has columns {schema.names}: {', '.join(missing)} is missing")
        kind = schema.field("image").type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise PhotoError(f"{path}: column image is {kind}, expected a struct with the field bytes")
        return pq.read_table(path, columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise PhotoError(
            f"{path} is truncated or no Parquet file ({error}): delete it and run data_download.sh again"
        ) from error


def _plain(column: pa.ChunkedArray) -> list:
    """Text as undecoded bytes, so that one bad caption does not hide the others."""
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return (column.cast(pa.binary()) if text else column).to_pylist()


def caption_of(value: bytes | None) -> str:
    """One caption; ValueError when it is missing, empty or not UTF-8."""
    if value is None or not value.strip():
        raise ValueError("no caption")
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError("the caption is not UTF-8") from error


def decode(data: bytes | None, size: int) -> torch.Tensor:
    """One encoded photo → (3, size, size) uint8, squashed to a square.

    Gray becomes RGB, transparency white. Raises ValueError when it does not decode.
    """
    try:
        image = Image.open(io.BytesIO(data or b""))
        image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image does not decode ({error})") from error
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return pil_to_tensor(image.resize((size, size), Image.Resampling.BICUBIC))


def decode_rows(table: Table, rows: Sequence[int], size: int) -> tuple[torch.Tensor, list[int]]:
    """The photos at `rows` → (n, 3, size, size) uint8 and the rows that did decode.

    Others are skipped, counted and listed in a warning; above 1 % PhotoError.
    """
    out, used, skipped = torch.empty(len(rows), 3, size, size, dtype=torch.uint8), [], Skipped()
    for row in rows:
        try:
            out[len(used)] = decode(table.images[row], size)
            used.append(row)
        except ValueError as error:
            skipped.add(table.names[row], error)
    skipped.settle(len(rows))
    return out[: len(used)], used
