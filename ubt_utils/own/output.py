"""What is handed out: files that are all there, or as they were before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ubt_utils.clip import archives
from ubt_utils.core import store

LONGEST = 80  # characters of a name in a message


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
    fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".unfinished-") as place:
        yield Path(place)
        for path in sorted(Path(place).iterdir()):
            os.replace(path, folder / path.name)


@contextmanager
def told() -> Iterator[None]:
    """What the system refuses (a name that is too long, a full disk) as a ValueError that says what to do."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:
        full = error.errno in store.NO_ROOM
        advice = "make room and run it again: it goes on where it was" if full else "name another one"
        where = f" ({error.filename!s:.{LONGEST}})" if error.filename else ""
        raise ValueError(f"{error.strerror or error}{where}: {advice}") from error
