"""Stage folders: written whole or not at all, reused only when they are made from the same.

A stage's key hashes its config, the content of its inputs' files, and the source that it runs. Its folder
holds what it wrote, `config.json` (what the key hashes, and the checksums of all files), `metrics.json`, and
`made.json`: commit, versions, device, threads, ranks and seconds of the making, which is not part of the key.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file

from ubt_utils.core import distributed, paths, provenance, source
from ubt_utils.core.checksum import sha256_of, to_disk, write_whole
from ubt_utils.core.tensors import save_tensors

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
CONFIG, METRICS, MADE, STARTS = "config.json", "metrics.json", "made.json", "starts.json"
NOTES = (CONFIG, METRICS, MADE)  # what is written about a stage, not by it
ASIDE = "rank-"  # folders of the ranks that write for nothing
SAME = ("threads", "ranks", "device")  # where a checkpoint goes on with other ones, that is said
Work = Callable[[Path], Mapping[str, Any]]


class StageError(RuntimeError):
    """A stage folder that is damaged, or that could not be written."""


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, what it was made from (config), its metrics, where it was made."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    made: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The hash that names the folder."""
        return self.folder.name.rsplit("-", 1)[1]

    @cached_property
    def contents(self) -> dict[str, str]:
        """File → SHA-256 of what the stage wrote: what it is to the stages after it."""
        return {name: sha for name, sha in self.config["files"].items() if name not in NOTES}

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


def key_of(name: str, config: Mapping[str, Any]) -> str:
    """Twelve hex digits over a stage's name and all that it is made from."""
    text = json.dumps([name, config], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_stage(
    parts: tuple[str, ...],
    name: str,
    config: Mapping[str, Any],
    work: Work,
    inputs: Mapping[str, Stage] | None = None,
    modules: tuple[str, ...] = (),
) -> Stage:
    """The stage at runs/<parts>/<name>-<key>, made by `work` unless it is there already.

    inputs: the stages that it reads, by what they are to it. modules: dotted names of the code that it runs,
    see `source`. work(folder) writes its files into a working folder and returns the metrics. The working
    folder survives a kill, so that `work` can continue from its checkpoint; only when all is written does the
    folder get its final name. Two processes that want the same stage wait for each other; ranks of one launch
    make it together. Raises StageError when the disk is full.
    """
    if taken := {"inputs", "source", "files"} & set(config):
        raise ValueError(
            f"the config of {name} may not hold {', '.join(sorted(taken))}: the store writes these"
        )
    whole = {
        **config,
        "inputs": {role: stage.contents for role, stage in (inputs or {}).items()},
        "source": source.digest(*modules),
    }
    final = paths.runs().joinpath(*parts) / f"{name}-{key_of(name, whole)}"
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_suffix(".lock")) if distributed.first() else nullcontext():
        if not distributed.agreed(final.exists()):
            try:
                _make(final, whole, work)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                raise StageError(
                    f"stage {name} could not be written under {final.parent} ({error}); "
                    "make room and run it again: it continues from its last checkpoint"
                ) from error
    return _read(final)


def _make(final: Path, config: Mapping[str, Any], work: Work) -> None:
    partial = final.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    if not distributed.agreed((partial / CONFIG).exists()):  # a kill may have come just before the rename
        begun = _begin(partial) if distributed.first() else {}
        start = time.perf_counter()
        metrics = work(_own(partial))
        distributed.wait()
        if distributed.first():
            for litter in partial.glob(".*"):  # of a kill in the middle of `write_whole`
                litter.unlink()
            _seal(partial, config, metrics, {**begun, "seconds": time.perf_counter() - start})
    if distributed.first():
        for temporary in (partial / "scratch", *partial.glob(f"{ASIDE}*")):
            shutil.rmtree(temporary, ignore_errors=True)
        (partial / STARTS).unlink(missing_ok=True)
        partial.rename(final)
    distributed.wait()


def _begin(partial: Path) -> dict[str, Any]:
    """Note where the work begins or goes on; a warning where that is another machine than before."""
    here, notes = provenance.environment(), partial / STARTS
    starts = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else []
    if starts and (other := [k for k in SAME if starts[-1][k] != here[k]]):
        before = ", ".join(f"{k} {starts[-1][k]}" for k in other)
        now = ", ".join(f"{k} {here[k]}" for k in other)
        warnings.warn(
            f"{partial.name} was begun with {before} and goes on with {now}: rounding differs, and its "
            f"{MADE} says so; delete {partial} to make it in one go",
            stacklevel=4,
        )
    write_whole(notes, json.dumps([*starts, here]))
    return {**here, **({"starts": [*starts, here]} if starts else {})}


def _own(partial: Path) -> Path:
    """Where this rank writes: the first one into the working folder, others aside, for nothing."""
    if distributed.first():
        return partial
    aside = partial / f"{ASIDE}{distributed.rank()}"
    aside.mkdir(exist_ok=True)
    return aside


def _seal(
    folder: Path, config: Mapping[str, Any], metrics: Mapping[str, Any], made: Mapping[str, Any]
) -> None:
    """Write what is known of the stage; the config last, which says that all is there."""
    write_whole(folder / METRICS, json.dumps(metrics, indent=1))
    write_whole(folder / MADE, json.dumps(made, indent=1))
    kept = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in (CONFIG, STARTS)]
    for path in kept:
        to_disk(path)  # the config must not outlive a power cut without what it tells of
    files = {p.name: sha256_of(p) for p in kept}
    write_whole(folder / CONFIG, json.dumps({**config, "files": files}, indent=1))


def _read(folder: Path) -> Stage:
    try:
        config, metrics, made = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (CONFIG, METRICS, MADE)
        )
        for name in (METRICS, MADE):
            if config["files"].get(name) != sha256_of(folder / name):
                raise ValueError(f"{name} is not what the stage wrote")
        return Stage(folder, config, metrics, made)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(f"{folder} is damaged ({error}): delete it and run the stage again") from error


def scratch(folder: Path) -> Path:
    """A place inside a working folder for checkpoints, one for all ranks; gone when the stage is whole."""
    place = (folder if distributed.first() else folder.parent) / "scratch"
    place.mkdir(exist_ok=True)
    return place / "checkpoint.pt"


def save_arrays(folder: Path, **arrays: torch.Tensor) -> None:
    """Write tensors as arrays.safetensors."""
    save_tensors({k: v.contiguous() for k, v in arrays.items()}, folder / "arrays.safetensors")
