"""Pictures decoded once to a file that is mapped, not read: training and scoring draw batches from it."""

from __future__ import annotations

import json
import mmap
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from ubt_utils.data.decoding import PhotoError, Row, Skipped, caption_of, decode
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Pictures

CHUNK = 1024  # rows between two entries of the journal
PICTURES, JOURNAL = "pictures.bin", "journal.jsonl"


class Entry(NamedTuple):
    """One line of the journal: rows seen until here; of this chunk captions, names, and what was skipped."""

    seen: int
    captions: list[str]
    names: list[str]
    skipped: list[str]


def write(rows: Iterable[Row], folder: Path, size: int, total: int | None = None, fit: str = "squash") -> int:
    """Decode rows to (N, 3, size, size) bytes and a journal of captions under `folder`; returns N.

    Rows that cannot be used are skipped, with a warning; PhotoError when they are more than 1 %. After a kill
    the same call goes on behind the last whole entry of the journal. total: how many rows there are, for the
    progress. fit: see `decoding.decode`.
    """
    done = _resumed(folder, size)
    seen, count = done[-1].seen if done else 0, sum(len(e.names) for e in done)
    skipped = Skipped([reason for e in done for reason in e.skipped])
    todo = islice(rows, seen, None)
    bar = tqdm(total=total, initial=seen, desc="decode pairs", unit="pair", delay=3)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool, (folder / PICTURES).open("ab") as pictures:
        while chunk := tuple(islice(todo, CHUNK)):
            entry = Entry(seen + len(chunk), [], [], [])
            for row, made in zip(chunk, pool.map(lambda row: _decoded(row, size, fit), chunk), strict=True):
                if isinstance(made, ValueError):
                    entry.skipped.append(f"{row.name}: {made}")
                    continue
                pictures.write(made[0].contiguous().numpy())
                entry.captions.append(made[1])
                entry.names.append(row.name)
            pictures.flush()  # first the pictures, then the line that says that they are there
            _note(folder, entry)
            seen, count = entry.seen, count + len(entry.names)
            skipped.rows += entry.skipped
            bar.update(len(chunk))
    skipped.settle(seen)
    if count == 0:
        raise PhotoError("there are no pairs to decode")
    return count


def _decoded(row: Row, size: int, fit: str) -> tuple[torch.Tensor, str] | ValueError:
    try:
        return decode(row.image, size, fit), caption_of(row.caption)
    except ValueError as error:
        return error


def _note(folder: Path, entry: Entry) -> None:
    with (folder / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _entries(folder: Path) -> list[Entry]:
    """The whole lines of the journal; a kill may have cut the last one."""
    path = folder / JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [Entry(*json.loads(line)) for line in lines if line.endswith("\n")]


def _resumed(folder: Path, size: int) -> list[Entry]:
    """What a killed run has finished; what it had only begun is cut off both files."""
    found, held = _entries(folder), 0
    if (folder / PICTURES).exists():
        held = (folder / PICTURES).stat().st_size // (3 * size * size)
    while sum(len(e.names) for e in found) > held:
        found.pop()
    if (folder / PICTURES).exists():
        os.truncate(folder / PICTURES, sum(len(e.names) for e in found) * 3 * size * size)
    (folder / JOURNAL).write_text("".join(json.dumps(e) + "\n" for e in found), encoding="utf-8")
    return found


def read(folder: Path, size: int, identity: str = "") -> Pairs:
    """The pairs of a store, their pictures mapped. identity: see `Pictures`. Raises PhotoError where its
    files do not fit together."""
    found, path = _entries(folder), folder / PICTURES
    names = [name for entry in found for name in entry.names]
    expected, held = len(names) * 3 * size * size, path.stat().st_size if path.exists() else 0
    if not names or held != expected:
        raise PhotoError(
            f"{path} holds {held:,} bytes where {expected:,} are expected: delete {folder} and build it again"
        )
    captions = tuple(caption for entry in found for caption in entry.captions)
    stored = _mapped(path).view(-1, 3, size, size)
    return Pairs(Pictures.of(stored, identity), captions, sources=tuple(names))


def _mapped(path: Path) -> torch.Tensor:
    """A file's bytes (n,) uint8, read when they are used; writing to them ends the process. Mapped for
    reading, a file may be larger than the memory."""
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(held, dtype=torch.uint8)
