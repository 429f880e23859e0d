"""What a class is given so that nobody trains: the finished stages of some notebooks, in one archive."""

from __future__ import annotations

import tarfile
from pathlib import Path

from ubt_utils.core import store
from ubt_utils.core.checksum import whole


def finished(runs: Path) -> list[Path]:
    """The folders of all finished stages under a folder of runs, sorted."""
    return sorted(note.parent for note in runs.glob(f"*/*/*/*/{store.CONFIG}") if note.parent.suffix == "")


def pack(runs: Path, out: Path) -> list[Path]:
    """Write the finished stages of a folder of runs as a tar file, whole or not at all; says which they are.

    Unpacked at the top of a checkout they lie under runs/, where each is found by whoever runs the same code
    with the same settings. ValueError where there is none.
    """
    stages = finished(runs)
    if not stages:
        raise ValueError(f"{runs} holds no finished stage: nothing to hand out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as part, tarfile.open(part, "w") as archive:  # weights hardly get smaller
        for stage in stages:
            archive.add(stage, Path("runs") / stage.relative_to(runs))
    return stages
