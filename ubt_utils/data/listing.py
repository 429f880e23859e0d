"""The files of a source with sizes and checksums: as the public hub lists them, or as a mirror has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import huggingface_hub

from ubt_utils.core.checksum import sha256_of
from ubt_utils.data.sources import Source

CHUNK = 1 << 20


class FetchError(ValueError):
    """Data that could not be fetched, or that is not what it should be."""


class HubAway(FetchError):
    """The hub did not answer: most often there is no network."""


@dataclass(frozen=True)
class Item:
    """One file to have. size: in bytes. expect: tells its SHA-256. get: writes it to the path it is given,
    going on where that path stops."""

    source: Source
    name: str
    size: int
    expect: Callable[[], str]
    get: Callable[[Path], None]

    @property
    def path(self) -> Path:
        """Where it belongs."""
        return paths.data() / self.source.folder / self.name

    @cached_property
    def sha256(self) -> str:
        """Its checksum; a mirror's file is read for it, so that only what is fetched is read."""
        return self.expect()


def from_mirror(source: Source, mirror: Path) -> list[Item]:
    """The files that a mirror has of a source, in order. Raises FetchError where a split has none."""
    folder, items = mirror / source.folder, []
    for split in source.splits:
        pattern = source.mirror.format(split=split)
        found = sorted(folder.glob(pattern))
        if not found:
            raise FetchError(
                f"the mirror has no {split} files ({pattern}) in {folder}: "
                "a mirror is laid out as the data folder is"
            )
        items += [_mirrored(source, path) for path in found]
    return items


def _mirrored(source: Source, path: Path) -> Item:
    return Item(source, path.name, path.stat().st_size, lambda: sha256_of(path), _copier(path))


def _copier(source: Path) -> Callable[[Path], None]:
    def copy(part: Path) -> None:
        with source.open("rb") as read, part.open("ab") as write:
            read.seek(write.tell())
            shutil.copyfileobj(read, write, CHUNK)

    return copy


def from_hub(source: Source) -> list[Item]:
    """The files that the hub has of a source, in order. Raises HubAway when it cannot be asked, FetchError
    where a split has none."""
    try:
        info = huggingface_hub.HfApi().dataset_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=30
        )
    except Exception as error:  # the library lets many kinds through, by transport
        raise HubAway(
            f"the hub cannot be asked for {source.repo} ({type(error).__name__}): is the network there? "
            "A folder with the same files can be named by --mirror or in UBT_MIRROR"
        ) from error
    items, missing = [], []
    for split in source.splits:
        pattern = source.hub.format(split=split)
        found = [file for file in info.siblings or [] if fnmatchcase(Path(file.rfilename).name, pattern)]
        items += [_listed(source, file, info.sha) for file in sorted(found, key=lambda f: f.rfilename)]
        missing += [] if found else [split]
    if missing:
        raise FetchError(f"{source.repo} at {info.sha} has no files of {', '.join(missing)}")
    return items


def _listed(source: Source, file: huggingface_hub.hf_api.RepoSibling, commit: str | None) -> Item:
    get, checksum = _downloader(source, file.rfilename, commit), file.lfs.sha256
    return Item(source, Path(file.rfilename).name, file.size, lambda: checksum, get)


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
