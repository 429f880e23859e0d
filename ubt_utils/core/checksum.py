"""Checksums of files: taken anew, or remembered for large ones that have not changed; and files written whole
or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from ubt_utils.core import paths


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes as hex digits, read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha512_of(path: Path) -> str:
    """SHA-512 of a small file's bytes in base64, as npm writes it."""
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def remembered(*files: Path) -> str:
    """One SHA-256 for files, in order; of one file, its own. Read once for all processes: it is kept under
    `runs/` until a file's size, its times or its place on the disk change. For many gigabytes."""
    stats = [path.stat() for path in files]
    state = _text([[s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for s in stats])
    name = _text([str(path.resolve()) for path in files])[:24]
    note = paths.runs() / "checksums" / f"{name}.json"
    if known := _noted(note, state):
        return known
    note.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(note.with_suffix(".lock")):  # one process reads, the others wait for what it finds
        if known := _noted(note, state):
            return known
        each = [sha256_of(path) for path in files]
        found = each[0] if len(each) == 1 else _text([[p.parent.name, p.name] for p in files] + each)
        write_whole(note, json.dumps({"state": state, "sha256": found}))
    return found


def _noted(note: Path, state: str) -> str:
    """The checksum of a note that was made in that state; "" where there is none, or where it is
    half-written."""
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        return known["sha256"] if known["state"] == state else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _text(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file to, which gets the name `path` when all is written and on the disk, and not
    where something fails. A kill may leave a file beside it whose name begins with a dot; a full disk leaves
    none."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield part
        to_disk(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # gone already where all went well


def write_whole(path: Path, text: str) -> None:
    """Write a small text file whole or not at all, see `whole`."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def to_disk(path: Path) -> None:
    """Have a file's bytes written out, where only the system may hold them so far."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
