"""What is handed out: files that are all there, or as they were before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from ubt_utils.clip import archives

UNFINISHED = ".ubt-unfinished"  # a folder beside what is handed out, while it is written


def folder_for(place: Path) -> Path:
    """A folder that may be written to, which need not be there yet; NotADirectoryError or PermissionError
    where it may not."""
    there = next((p for p in (place, *place.parents) if p.exists()), Path())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file: name a folder for the report")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{there} may not be written to: name another folder")
    return place


def file_for(place: Path, given: Path) -> Path:
    """A file that a model may go to in the format of the given one; ValueError where it may not."""
    if place.is_dir():
        raise ValueError(f"{place} is a folder: name a file for the defended model")
    if place.exists() and place.samefile(given):
        raise ValueError(f"{place} is what is read: name another file for the defended model")
    archives.fits(place, given)
    folder_for(place.parent)
    return place


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A place to write to; its files move to the folder when all are written, and none does where something
    fails. Processes that write to one folder wait for each other, so that what is found half-written there is
    of one that was killed, and goes."""
    folder.mkdir(parents=True, exist_ok=True)
    place, lock = folder / UNFINISHED, folder / f"{UNFINISHED}.lock"
    with FileLock(lock):
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            yield place
            for path in sorted(place.iterdir()):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            with suppress(PermissionError):  # Windows removes it itself, when it is given back
                lock.unlink(missing_ok=True)
