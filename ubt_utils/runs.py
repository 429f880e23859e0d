"""Stage folders: written whole or not at all, reused only for the same config and inputs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ubt_utils import ranks
from ubt_utils.checksum import sha256_of

ROOT = Path(__file__).parent.parent
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
CONFIG, METRICS = "config.json", "metrics.json"
ASIDE = "rank-"  # folders of the ranks that write for nothing


class StageError(RuntimeError):
    """A stage folder that is damaged, or that could not be written."""


def root() -> Path:
    """Where stage folders live: `runs/` of the checkout, or the folder in UBT_RUNS."""
    return Path(os.environ.get("UBT_RUNS", ROOT / "runs"))


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, its config (with the keys of its inputs), its metrics."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The hash that names the folder; later stages depend on it."""
        return self.folder.name.rsplit("-", 1)[1]

    def path(self, name: str) -> Path:
        """A file of the stage; StageError if it is missing or differs from what was written."""
        path = self.folder / name
        if not path.exists() or sha256_of(path) != self.config["files"].get(name):
            raise StageError(
                f"{path} is missing or was changed since it was written: "
                f"delete {self.folder} and run the stage again"
            )
        return path

    def arrays(self, name: str = "arrays.safetensors") -> dict[str, torch.Tensor]:
        """The tensors that the stage saved."""
        try:
            return load_file(self.path(name))
        except SafetensorError as error:  # pragma: no cover - path() has checked the bytes
            raise StageError(f"{name} of {self.folder} cannot be read: {error}") from error


def stage_key(name: str, config: Mapping[str, Any]) -> str:
    """Twelve hex digits over the stage's name, config and input keys."""
    text = json.dumps([name, config], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_stage(
    parts: tuple[str, ...],
    name: str,
    config: Mapping[str, Any],
    work: Callable[[Path], Mapping[str, Any]],
) -> Stage:
    """The stage at runs/<parts>/<name>-<hash>, made by `work` unless it is there already.

    work(folder) writes its files into a working folder and returns the metrics. The
    working folder survives a kill, so that `work` can continue from its checkpoint; only
    when all is written does the folder get its final name. Two processes that want the
    same stage wait for each other; ranks of one launch make it together. Raises StageError when the disk
    is full.
    """
    final = root().joinpath(*parts) / f"{name}-{stage_key(name, config)}"
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_suffix(".lock")) if ranks.first() else nullcontext():
        if ranks.agreed(final.exists()):
            return _read(final)
        partial = final.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        try:
            metrics = work(_own(partial))
            ranks.wait()
            if ranks.first():
                _seal(partial, config, metrics)
        except (OSError, SafetensorError) as error:
            if not _no_room(error):
                raise
            raise StageError(
                f"stage {name} could not be written under {final.parent} ({error}); "
                "make room and run it again: it continues from its last checkpoint"
            ) from error
        if ranks.first():
            partial.rename(final)
        ranks.wait()
    return _read(final)


def _own(partial: Path) -> Path:
    """Where this rank writes: the first one into the working folder, others aside, for nothing."""
    if ranks.first():
        return partial
    aside = partial / f"{ASIDE}{ranks.rank()}"
    aside.mkdir(exist_ok=True)
    return aside


def _no_room(error: Exception) -> bool:
    """Is the disk, or the quota, full? safetensors tells the system's error number in its text."""
    told = [f"os error {number}" in str(error) for number in NO_ROOM]
    return getattr(error, "errno", None) in NO_ROOM or any(told)


def _seal(folder: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    for temporary in (folder / "scratch", *folder.glob(f"{ASIDE}*")):
        shutil.rmtree(temporary, ignore_errors=True)
    (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    files = {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.name != CONFIG}
    (folder / CONFIG).write_text(json.dumps({**config, "files": files}, indent=1), encoding="utf-8")


def _read(folder: Path) -> Stage:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.get("files", {}).get(METRICS) != sha256_of(
            folder / METRICS
        ):
            raise ValueError(f"{METRICS} is not what the stage wrote")
        return Stage(folder, config, metrics)
    except (OSError, ValueError) as error:
        raise StageError(f"{folder} is damaged ({error}): delete it and run the stage again") from error


def scratch(folder: Path) -> Path:
    """A place inside a working folder for checkpoints, one for all ranks; gone when the stage is whole."""
    place = (folder if ranks.first() else folder.parent) / "scratch"
    place.mkdir(exist_ok=True)
    return place / "checkpoint.pt"


def save_arrays(folder: Path, **arrays: torch.Tensor) -> None:
    """Write tensors as arrays.safetensors."""
    save_file({k: v.contiguous() for k, v in arrays.items()}, folder / "arrays.safetensors")
