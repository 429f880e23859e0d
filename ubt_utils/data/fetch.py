"""Fetch the photo sets: from the public hub, or from a mirror folder laid out the same way.

A file gets its final name only when it is whole and its SHA-256 is right; what was interrupted
goes on where it stopped; what is there already is checked and left alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from tqdm.auto import tqdm

from ubt_utils.checksum import sha256_of
from ubt_utils.data import photos

SUMS = "SHA256SUMS"
CHUNK = 1 << 20
SPARE = 1.05  # room asked for, against the bytes to come


class FetchError(ValueError):
    """Data that could not be fetched, or that is not what it should be."""


@dataclass(frozen=True)
class Source:
    """folder: under the data root. repo, revision: the dataset on the public hub. splits: those that the
    profile reads. terms: what a user must know before using it."""

    folder: str
    repo: str
    revision: str
    splits: tuple[str, ...]
    terms: str


SOURCES = (
    Source(
        "tiny-imagenet", "zh-plus/tiny-imagenet", "7d7dcc553c5102021e2ef6b4666f3462bd803626",
        ("train", "valid"),
        "ImageNet's terms: non-commercial research and teaching",
    ),
    Source(
        "flickr8k", "jxie/flickr8k", "main", ("train", "validation", "test"),
        "research use; cite Hodosh, Young and Hockenmaier (2013); the photos belong to their photographers",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One file to have. get: writes it to the path it is given, going on where that path stops."""

    source: Source
    name: str
    size: int
    sha256: str
    get: Callable[[Path], None]

    @property
    def path(self) -> Path:
        """Where it belongs."""
        return photos.root() / self.source.folder / self.name


def plan(mirror: Path | None = None) -> list[Item]:
    """Every file of the photo sets, with size and checksum; FetchError if the source cannot be asked."""
    return [item for s in SOURCES for item in (_from_mirror(s, mirror) if mirror else _from_hub(s))]


def fetch(mirror: Path | None = None) -> list[Path]:
    """Get all files that are not there yet; returns those that were fetched.

    Raises FetchError when the network is not there, a checksum differs or there is no room.
    """
    items = plan(mirror)
    missing = [item for item in items if not _is_there(item)]
    _check_room(missing)
    for item in (bar := tqdm(missing, "fetch", unit="file")):
        bar.set_postfix_str(f"{item.source.folder}/{item.name}")
        _fetch(item)
    _write_sums(items)
    return [item.path for item in missing]


def as_text(items: list[Item]) -> str:
    """The plan as lines: what is there, what will come, under which terms."""
    lines = []
    for source in SOURCES:
        lines.append(f"{source.folder}: {source.terms}")
        for item in (i for i in items if i.source == source):
            state = "there" if item.path.exists() else "to fetch"
            lines.append(f"  {item.name}  {item.size / 1e6:.1f} MB  {state}")
    total = sum(item.size for item in items if not item.path.exists())
    return "\n".join([*lines, f"to fetch: {total / 1e6:.1f} MB, into {photos.root()}"])


def _fetch(item: Item) -> None:
    item.path.parent.mkdir(parents=True, exist_ok=True)
    part = item.path.with_name(item.name + ".part")
    item.get(part)
    if (found := sha256_of(part)) != item.sha256:
        part.unlink()
        raise FetchError(
            f"{item.source.folder}/{item.name} came with SHA-256 {found[:12]}…, "
            f"expected {item.sha256[:12]}…: nothing was kept; run it again"
        )
    os.replace(part, item.path)


def _is_there(item: Item) -> bool:
    """Is the file there and right? FetchError when something else has its name."""
    if not item.path.exists():
        return False
    if sha256_of(item.path) != item.sha256:
        raise FetchError(
            f"{item.path} is not the file of this source (its checksum differs): move it away, "
            "or name another data folder in UBT_DATA"
        )
    return True


def _check_room(missing: list[Item]) -> None:
    place = photos.root()
    place.mkdir(parents=True, exist_ok=True)
    need, free = SPARE * sum(item.size for item in missing), shutil.disk_usage(place).free
    if need > free:
        raise FetchError(f"{need / 1e6:.0f} MB are needed under {place}, {free / 1e6:.0f} MB are free")


def _write_sums(items: list[Item]) -> None:
    for source in SOURCES:
        lines = [f"{item.sha256}  {item.name}\n" for item in items if item.source == source]
        (photos.root() / source.folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _from_mirror(source: Source, mirror: Path) -> list[Item]:
    folder, items = mirror / source.folder, []
    for split in source.splits:
        found = sorted(folder.glob(f"{split}-*.parquet"))
        if not found:
            raise FetchError(f"the mirror has no {split} files in {folder}")
        for path in found:
            items.append(Item(source, path.name, path.stat().st_size, sha256_of(path), _copier(path)))
    return items


def _copier(source: Path) -> Callable[[Path], None]:
    def copy(part: Path) -> None:
        with source.open("rb") as read, part.open("ab") as write:
            read.seek(write.tell())
            shutil.copyfileobj(read, write, CHUNK)

    return copy


def _from_hub(source: Source) -> list[Item]:
    try:
        info = huggingface_hub.HfApi().dataset_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=30
        )
    except Exception as error:  # the library lets many kinds through, by transport
        raise FetchError(
            f"the hub cannot be asked for {source.repo} ({type(error).__name__}): is the network there? "
            "A folder with the same files can be named by --mirror or in UBT_MIRROR"
        ) from error
    items = []
    for file in info.siblings or []:
        name = Path(file.rfilename).name
        if name.endswith(".parquet") and name.split("-")[0] in source.splits:
            get = _downloader(source, file.rfilename, info.sha)
            items.append(Item(source, name, file.size, file.lfs.sha256, get))
    if missing := [s for s in source.splits if not any(i.name.startswith(f"{s}-") for i in items)]:
        raise FetchError(f"{source.repo} at {info.sha} has no files of {', '.join(missing)}")
    return items


def _downloader(source: Source, name: str, commit: str | None) -> Callable[[Path], None]:
    def download(part: Path) -> None:
        try:
            got = huggingface_hub.hf_hub_download(
                source.repo, name, repo_type="dataset", revision=commit, local_dir=part.parent / ".incoming"
            )
        except Exception as error:  # as above
            raise FetchError(
                f"{source.repo}/{name} stopped ({type(error).__name__}: {error}): "
                "run it again, it goes on there"
            ) from error
        os.replace(got, part)

    return download
