"""Pictures decoded once to a file that is mapped, not read: training and scoring draw batches from it."""

from __future__ import annotations

import io
import json
import mmap
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import joblib
import torch
from PIL import Image
from tqdm.auto import tqdm

from ubt_utils.core import distributed
from ubt_utils.core.store import run_stage
from ubt_utils.data.captions import has_words
from ubt_utils.data.decoding import FORMATS, PhotoError, Row, Skipped, caption_of, decode, some
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Pictures

CHUNK = 1024  # rows between two entries of the journal
PICTURES, JOURNAL = "pictures.bin", "journal.jsonl"
RARE = 0.05  # the part of the pictures up to which their file format tells them from the others
LITERAL = frozenset(("nan", "none", "null", "n/a"))  # what tables write where a caption is missing


class Unread(NamedTuple):
    """A row without picture or caption: where it comes from, and the reason in words."""

    name: str
    reason: str


class Entry(NamedTuple):
    """One line of the journal: rows seen until here; of this chunk captions, names, what could not be read
    and why, the names of captions without a word, and how many pictures are of which format."""

    seen: int
    captions: list[str]
    names: list[str]
    damaged: list[str]
    wordless: list[str]
    formats: dict[str, int]


@dataclass(frozen=True)
class Told:
    """What became of the rows of a store. rows: that were seen; pairs: that are kept. damaged: those that
    could not be read, with reasons. wordless: those left out since their caption has neither a letter nor a
    digit. literal: captions that are kept and are the word nan, none or null. formats: how many pictures are
    of which file format."""

    rows: int
    pairs: int
    damaged: list[str]
    wordless: list[str]
    literal: int
    formats: dict[str, int]

    def lines(self) -> list[str]:
        """The same in words, one line for each that a reader should know of."""
        said = []
        if self.damaged:
            said.append(f"{len(self.damaged)} of {self.rows} rows cannot be used: {some(self.damaged)}")
        return said + self.oddities()

    def oddities(self) -> list[str]:
        """The lines without that of the damaged rows."""
        said, rare = [], {k: n for k, n in self.formats.items() if n <= RARE * self.pairs}
        if self.wordless:
            left_out = f"{len(self.wordless)} of {self.rows} captions have no letter and no digit"
            said.append(f"{left_out}: left out ({some(self.wordless)})")
        if self.literal:
            said.append(f"{self.literal} captions are the word nan, none or null, as of a missing one: kept")
        for kind, count in rare.items():
            told_apart = f"{count} of {self.pairs} pictures are {kind}, and the others are not"
            said.append(f"{told_apart}: poison that was saved anew can be told by its file format alone")
        return said


def once(
    rows: Iterable[Row | Unread], identity: str, size: int, fit: str, *readers: str
) -> tuple[Pairs, Told]:
    """The pairs of rows, decoded once and for all by the first rank: a stage of its own under runs/stores.
    identity: a checksum of what the rows are read from; readers: the modules that read them. Raises and warns
    as `write`, when it decodes."""
    config = {"pictures": identity, "size": size, "fit": fit}

    def work(folder: Path) -> dict[str, int]:
        return {"pairs": write(rows, folder, size, fit=fit)} if distributed.first() else {}

    made = run_stage(("stores",), "decode", config, work, modules=(__name__, *readers))
    return _kept(made.folder, size, f"{identity} {size} {fit}")


@lru_cache(maxsize=4)
def _kept(folder: Path, size: int, identity: str) -> tuple[Pairs, Told]:
    return read(folder, size, identity), told(folder)


def write(
    rows: Iterable[Row | Unread], folder: Path, size: int, total: int | None = None, fit: str = "squash"
) -> int:
    """Decode rows to (N, 3, size, size) bytes and a journal of captions under `folder`; returns N.

    Rows that cannot be used are left out with a warning, PhotoError when they are more than 1 %; captions
    without a word are left out with another. After a kill the same call goes on behind the last whole entry
    of the journal. total: how many rows there are, for the progress. fit: see `decoding.decode`.
    """
    done = _resumed(folder, size)
    seen = done[-1].seen if done else 0
    todo = islice(rows, seen, None)
    bar = tqdm(total=total, initial=seen, desc="decode pairs", unit="pair", delay=3)
    with bar, ThreadPoolExecutor(joblib.cpu_count()) as pool, (folder / PICTURES).open("ab") as pictures:
        while chunk := tuple(islice(todo, CHUNK)):
            entry = Entry(seen + len(chunk), [], [], [], [], Counter())
            for row, made in zip(chunk, pool.map(lambda row: _decoded(row, size, fit), chunk), strict=True):
                if isinstance(made, Decoded):
                    pictures.write(made.pixels.contiguous().numpy())
                    entry.captions.append(made.caption)
                    entry.names.append(row.name)
                    entry.formats[made.format] += 1
                elif isinstance(made, str):
                    entry.damaged.append(f"{row.name}: {made}")
                else:
                    entry.wordless.append(row.name)
            pictures.flush()  # first the pictures, then the line that says that they are there
            _note(folder, entry)
            seen = entry.seen
            bar.update(len(chunk))
    found = told(folder)
    Skipped(found.damaged).settle(found.rows)
    for line in found.oddities():
        warnings.warn(line, stacklevel=2)
    if found.pairs == 0:
        raise PhotoError("there are no pairs to decode")
    return found.pairs


def told(folder: Path) -> Told:
    """What became of the rows of the store there."""
    seen = pairs = literal = 0
    damaged: list[str] = []
    wordless: list[str] = []
    formats: Counter[str] = Counter()
    for entry in _entries(folder):
        seen, pairs = entry.seen, pairs + len(entry.captions)
        literal += sum(caption.casefold() in LITERAL for caption in entry.captions)
        damaged += entry.damaged
        wordless += entry.wordless
        formats.update(entry.formats)
    return Told(seen, pairs, damaged, wordless, literal, dict(formats))


class Decoded(NamedTuple):
    """A row that can be used."""

    pixels: torch.Tensor
    caption: str
    format: str


def _decoded(row: Row | Unread, size: int, fit: str) -> Decoded | str | None:
    """The pair, or the reason why it cannot be read, or None where its caption has no word."""
    if isinstance(row, Unread):
        return row.reason
    try:
        caption = caption_of(row.caption)
        pixels = decode(row.image, size, fit)
    except ValueError as error:
        return str(error)
    if not has_words(caption):
        return None
    return Decoded(
        pixels, caption, Image.open(io.BytesIO(row.image or b""), formats=FORMATS).format or "unknown"
    )


def _note(folder: Path, entry: Entry) -> None:
    with (folder / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _entries(folder: Path) -> Iterator[Entry]:
    """The whole lines of the journal, one after the other; a kill may have cut the last one."""
    if (folder / JOURNAL).exists():
        with (folder / JOURNAL).open(encoding="utf-8") as file:
            yield from (Entry(*json.loads(line)) for line in file if line.endswith("\n"))


def _resumed(folder: Path, size: int) -> list[Entry]:
    """What a killed run has finished; what it had only begun is cut off both files."""
    found, held = list(_entries(folder)), 0
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
    path = folder / PICTURES
    captions: list[str] = []
    names: list[str] = []
    for entry in _entries(folder):
        captions += entry.captions
        names += entry.names
    expected, held = len(names) * 3 * size * size, path.stat().st_size if path.exists() else 0
    if not names or held != expected:
        raise PhotoError(
            f"{path} holds {held:,} bytes where {expected:,} are expected: delete {folder} and build it again"
        )
    stored = _mapped(path).view(-1, 3, size, size)
    return Pairs(Pictures.of(stored, identity), tuple(captions), sources=tuple(names))


def _mapped(path: Path) -> torch.Tensor:
    """A file's bytes (n,) uint8, read when they are used; writing to them ends the process. Mapped for
    reading, a file may be larger than the memory."""
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(held, dtype=torch.uint8)
