"""Room on the disk: how much is free, and sizes in words."""

from __future__ import annotations

import shutil
from pathlib import Path

SPARE = 1.05  # room asked for, against the bytes to come


def free(place: Path) -> int:
    """Bytes that are free where a folder is, or where it would be made."""
    there = next(p for p in (place, *place.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def amount(size: float) -> str:
    """A number of bytes in words: MB below one GB, then GB (10⁶ and 10⁹ bytes)."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
