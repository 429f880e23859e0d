"""Get a profile's data from the public hub, or from a mirror: a folder laid out as the data folder is.

A file gets its final name only when it is whole and its checksum is right; what was interrupted goes on where
it stopped; what is there already is checked and left alone. checksums.json pins the commits and keeps the
SHA-256 of files: {repo: {"revision": ..., "files": {name: sha256}}}.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import huggingface_hub
from tqdm.auto import tqdm

from ubt_utils.core import paths
from ubt_utils.core.checksum import sha256_of, write_whole
from ubt_utils.data import shards, tars
from ubt_utils.data.pointers import refuse_pointer

CHECKSUMS = Path(__file__).parent / "checksums.json"
SUMS, INCOMING = (
    "SHA256SUMS",
    ".incoming",
)  # in each data folder: as sha256sum reads it; what is not whole yet
SPARE = 1.05  # room asked for, against the bytes to come
PAIRS, SHARDS = 2_905_954, 576  # of CC3M's hub copy, by its card
SHARD_BYTES = 465_000_000  # about: they have 461 to 474 MB
ELSEWHERE = "a folder with the same files can be named by --mirror or in UBT_MIRROR"

_bytes = partial(tqdm.format_sizeof, suffix="B")


class FetchError(ValueError):
    """Data that could not be fetched, or that is not what it should be."""


@dataclass(frozen=True)
class Source:
    """A dataset. folder: under the data root, and in a mirror. splits: those that are read. patterns: names
    of a split's files, and others that they may have in a mirror."""

    folder: str
    repo: str
    splits: tuple[str, ...]
    terms: str
    patterns: tuple[str, ...] = ("{}-*.parquet",)

    @property
    def pinned(self) -> dict:
        """Its entry in checksums.json."""
        return json.loads(CHECKSUMS.read_text("utf-8"))[self.repo]


# checksums.json has flickr8k at "main", for its commit was not known when it was written. Pin it at the first
# fetch (note_checksums): a branch may move, and results would be of other photos without anybody noticing.
PHOTOS = (
    Source(
        "tiny-imagenet", "zh-plus/tiny-imagenet", ("train", "valid"),
        "ImageNet's terms: non-commercial research and teaching",
    ),
    Source(
        "flickr8k", "jxie/flickr8k", ("train", "validation", "test"),
        "research use; cite Hodosh, Young and Hockenmaier (2013); photos belong to their photographers",
    ),
)  # fmt: skip
CC3M = Source(
    shards.ShardSets.pairs, "pixparse/cc3m-wds", ("train",),
    'captions and links "may be freely used for any purpose", Google asks to be acknowledged; the pictures '
    "belong to their owners",
    ("cc3m-{}-*.tar", "*.tar"),
)  # fmt: skip
PROFILES = {"photos": PHOTOS, "paper": (CC3M,)}


@dataclass(frozen=True)
class File:
    """One file to have. size: bytes. digest: SHA-256, or git blob id (40 digits), "" if nobody knows it.
    origin: its path on the hub, or in a mirror. commit: the hub's; "" for a mirror."""

    source: Source
    size: int
    digest: str
    origin: str
    commit: str = ""

    @property
    def path(self) -> Path:
        """Where it belongs: flat in its folder."""
        return paths.data() / self.source.folder / Path(self.origin).name

    @property
    def part(self) -> Path:
        """Where it grows."""
        return self.path.parent / INCOMING / (self.origin if self.commit else self.path.name)

    @cached_property
    def expected(self) -> str:
        """What it is held against; a mirror's file of unknown checksum is read for it."""
        return self.digest or sha256_of(Path(self.origin))

    def right(self, path: Path) -> bool:
        """Is it what a path holds? By SHA-256, or by git's id: SHA-1 over size and bytes."""
        if not path.is_file() or len(self.expected) == 64:
            return path.is_file() and sha256_of(path) == self.expected
        header = b"blob %d\0" % path.stat().st_size
        return hashlib.sha1(header + path.read_bytes()).hexdigest() == self.expected  # small, or in LFS


def fetch(
    profile: str = "photos", subset: int | None = None, mirror: Path | None = None, dry_run: bool = False
) -> None:
    """Get a profile's data. subset: pairs of the profile paper. mirror: a folder, or the one in UBT_MIRROR;
    else the hub is asked. dry_run: only print terms and sizes, for paper without the hub estimates.

    Raises ValueError for an unknown profile or subset, FetchError when the hub is away, a file is not what it
    should be or there is no room, PhotoError for a truncated shard of a mirror.
    """
    if mirror is None and (named := os.environ.get("UBT_MIRROR")):
        mirror = Path(named)
    pairs = _pairs(profile, subset, mirror)
    try:
        files = plan(profile, pairs, mirror)
    except FetchError as error:
        if mirror or not dry_run or profile != "paper":
            raise
        print(f"estimates, at {_bytes(SHARD_BYTES)} a shard: {error}")
        names = [f"cc3m-train-{number:04}.tar" for number in range(estimate(pairs))]
        files = [File(CC3M, SHARD_BYTES, "unknown", name) for name in names]
    print(as_text(files))
    if not dry_run:
        print(f"{len(get(files))} of {len(files)} files fetched, all checked, in {paths.data()}")


def plan(profile: str, pairs: int = 0, mirror: Path | None = None) -> list[File]:
    """The files that a profile needs, in order. pairs: of the profile paper. Raises as `fetch`."""
    files = [f for s in PROFILES[profile] for f in (in_mirror(s, mirror) if mirror else on_hub(s))]
    if profile != "paper":
        return files
    return first_shards(files, pairs) if mirror else files[: estimate(pairs)]


def get(files: list[File]) -> list[File]:
    """Get the files that are not there, and write SHA256SUMS; returns those that were fetched. FetchError as
    `there`, and where what came is not right, or there is no room."""
    found = there(files)
    missing = [file for file in files if file not in found]
    begun = sum(file.part.stat().st_size for file in missing if file.part.is_file())
    if reason := lack(sum(file.size for file in missing) - begun):
        raise FetchError(reason)
    for source, group in groupby(missing, key=lambda file: file.source):
        coming = list(group)
        if coming[0].commit:
            _download(source, coming)
        for file in tqdm(coming, source.folder, unit="file"):
            _place(file)
        shutil.rmtree(paths.data() / source.folder / INCOMING, ignore_errors=True)
    _write_sums(files)
    return missing


def there(files: list[File]) -> list[File]:
    """Those that are there; FetchError where something else has a file's name."""
    found = [file for file in files if file.path.exists()]
    for file in tqdm(found, "check", unit="file", leave=False):
        if not file.right(file.path):
            raise FetchError(
                f"{file.path} is not the file of this source: move it away, or name another UBT_DATA"
            )
    return found


def note_checksums(profile: str) -> None:
    """Write commit and SHA-256 of the files that are there into checksums.json: for those who ship the kit.
    FetchError where one is not as the hub lists it."""
    table = json.loads(CHECKSUMS.read_text("utf-8"))
    for source in PROFILES[profile]:
        listed = on_hub(source)
        found = {file.path.name: sha256_of(file.path) for file in there(listed)}
        table[source.repo] = {"revision": listed[0].commit, "files": source.pinned["files"] | found}
    write_whole(CHECKSUMS, json.dumps(table, indent=1) + "\n")


def on_hub(source: Source) -> list[File]:
    """The files that the hub has of a source, in order; FetchError when it cannot be asked."""
    known, revision = source.pinned["files"], source.pinned["revision"]
    try:
        info = huggingface_hub.HfApi().dataset_info(
            source.repo, revision=revision, files_metadata=True, timeout=30
        )
    except Exception as error:  # the library lets many kinds through, by transport
        why = f"the hub cannot be asked for {source.repo} ({type(error).__name__})"
        raise FetchError(f"{why}: no network? {ELSEWHERE}") from error
    listed, files = {Path(file.rfilename).name: file for file in info.siblings or []}, []
    for name in _chosen(source, listed, f"{source.repo} at {info.sha}"):
        file = listed[name]  # where `lfs` is None, git keeps the file itself
        digest = known.get(name) or (file.lfs.sha256 if file.lfs else file.blob_id)
        files.append(File(source, file.size, digest, file.rfilename, info.sha))
    return files


def in_mirror(source: Source, mirror: Path) -> list[File]:
    """The files that a mirror has of a source, in order, in its folder or deeper, as `hf download
    --local-dir` puts them; PhotoError for Git LFS pointers."""
    folder, known, files = mirror / source.folder, source.pinned["files"], []
    deepest_first = sorted(folder.rglob("*"), key=lambda path: -len(path.parts))
    places = {path.name: path for path in deepest_first}
    for path in places.values():  # before what they lack is told, since none of them is itself
        if path.is_file():
            refuse_pointer(path)
    for name in _chosen(source, places, f"the mirror's folder {folder}"):
        path = places[name]
        files.append(File(source, path.stat().st_size, known.get(name, ""), str(path)))
    return files


def _chosen(source: Source, names: Collection[str], place: str) -> list[str]:
    """The names of a source's splits, in order; FetchError where a split has none."""
    chosen = []
    for split in source.splits:
        patterns = [pattern.format(split) for pattern in source.patterns]
        found = next(filter(None, (fnmatch.filter(names, pattern) for pattern in patterns)), [])
        if not found:
            raise FetchError(f"{place} has no {split} files ({patterns[-1]})")
        chosen += sorted(found)
    return chosen


def estimate(pairs: int) -> int:
    """How many of CC3M's shards hold about so many pairs, by the mean of all."""
    return math.ceil(pairs * SHARDS / PAIRS)


def first_shards(files: list[File], pairs: int) -> list[File]:
    """The first shards of a mirror that hold so many pairs, by their headers; FetchError where they hold
    fewer, PhotoError where one breaks off."""
    for folder in {Path(file.origin).parent for file in files}:
        shards.shards(folder)
    found = 0
    for number, file in enumerate(tqdm(files, "count", unit="shard", leave=False), start=1):
        found += sum(not pair.reason for pair in tars.pairs(tars.index(Path(file.origin))))
        if found >= pairs:
            return files[:number]
    raise FetchError(f"the mirror's shards hold {found:,} pairs, not {pairs:,}: name fewer by --subset")


def as_text(files: list[File]) -> str:
    """Terms, names and sizes of each source's files; which checksums are unknown; what is to come."""
    lines, missing = [], [file for file in files if not file.path.exists()]
    for source, group in groupby(files, key=lambda file: file.source):
        rows = list(group)
        first, last, size = rows[0].path.name, rows[-1].path.name, _bytes(sum(file.size for file in rows))
        lines += [f"{source.folder}: {source.terms}", f"  {first} to {last}: {len(rows)} files, {size}"]
        if unknown := sum(not file.digest for file in rows):
            lines += [f"  no checksum is known for {unknown} of them: taken as the mirror has them"]
    size = sum(file.size for file in missing)
    count = f"{len(missing)} of {len(files)} files, {_bytes(size)}"
    return "\n".join([*lines, f"to fetch: {count}, into {paths.data()}. {lack(size)}".rstrip()])


def lack(size: int) -> str:
    """Why so many bytes have no room where the data root is, or is to be made, and what to do; or ""."""
    place, need = paths.data().absolute(), SPARE * size
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    amounts = f"{_bytes(need)} are needed under {place}, {_bytes(free)} are free"
    return f"Too little room: {amounts}. Make some, or name another UBT_DATA" if free < need else ""


def _pairs(profile: str, subset: int | None, mirror: Path | None) -> int:
    """How many pairs are asked for; ValueError for an unknown profile or an impossible number."""
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r} has nothing to fetch: known are {', '.join(PROFILES)}")
    if subset is None:
        return shards.ShardSets.limit
    if profile != "paper":
        raise ValueError(f"--subset is for the profile paper; {profile} is fetched whole: leave it out")
    if subset < 1 or (mirror is None and subset > PAIRS):
        raise ValueError(f"--subset {subset:,}: name a positive number of pairs; the hub copy has {PAIRS:,}")
    return subset


def _download(source: Source, files: list[File]) -> None:
    place, names = paths.data() / source.folder / INCOMING, [file.origin for file in files]
    try:
        huggingface_hub.snapshot_download(
            source.repo, repo_type="dataset", revision=files[0].commit, local_dir=place, allow_patterns=names
        )
    except Exception as error:  # as in on_hub
        why = f"{source.repo} stopped ({type(error).__name__}: {error})"
        raise FetchError(f"{why}: run it again, it goes on there; {ELSEWHERE}") from error


def _place(file: File) -> None:
    """Give a file its final name; a mirror's is copied first, from where an earlier copy stopped."""
    if not file.commit:
        file.part.parent.mkdir(parents=True, exist_ok=True)
        with open(file.origin, "rb") as read, file.part.open("ab") as write:
            read.seek(write.tell())
            shutil.copyfileobj(read, write, 1 << 20)
    if not file.right(file.part):
        file.part.unlink(missing_ok=True)
        why = f"{file.source.folder}/{file.path.name} came with another checksum than {file.expected[:12]}…"
        raise FetchError(f"{why}: not kept. Run it again; if it comes so again, its source has another file")
    os.replace(file.part, file.path)


def _write_sums(files: list[File]) -> None:
    """Checksums of all files; those of others that an earlier fetch left there are kept."""
    for folder, group in groupby(files, key=lambda file: file.path.parent):
        place = folder / SUMS
        lines = place.read_text("utf-8").splitlines() if place.exists() else []
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        sums |= {f.path.name: f.expected if len(f.expected) == 64 else sha256_of(f.path) for f in group}
        there = sorted(name for name in sums if (folder / name).is_file())
        place.write_text("".join(f"{sums[name]}  {name}\n" for name in there), encoding="utf-8")
