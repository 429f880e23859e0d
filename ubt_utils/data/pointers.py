"""What `git clone` leaves in the place of large files where Git LFS is not installed."""

from __future__ import annotations

from pathlib import Path

from ubt_utils.data.decoding import PhotoError

POINTER = b"version https://git-lfs"
ADVICE = "is a Git LFS pointer, not the file itself: run `git lfs pull` in the repository that it came with"


def refuse_pointer(path: Path) -> None:
    """PhotoError where a file is a pointer that Git LFS has left."""
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise PhotoError(f"{path} {ADVICE}")
