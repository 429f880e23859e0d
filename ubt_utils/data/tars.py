"""What a tar archive of pairs holds, where in it each member lies, and whether it was written to its end."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

from ubt_utils.data.decoding import PhotoError
from ubt_utils.data.pointers import refuse_pointer

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")  # extensions that a picture may have
CAPTION = "txt"
FILLED = 2 * tarfile.RECORDSIZE  # bytes of zeros that may follow the last member


class Part(NamedTuple):
    """A member by its name, and where its bytes lie in the archive."""

    name: str
    start: int
    size: int


Index: TypeAlias = dict[str, dict[str, Part]]  # name without extension → extension → where


class Pair(NamedTuple):
    """What of one name is there: a picture, a caption, or one of them alone, with the reason in words."""

    name: str
    image: Part | None
    caption: Part | None
    reason: str


def index(path: Path) -> Index:
    """Every member of an archive by its headers alone, in order. A name ends at its last dot, so that dots
    inside it are a part of it; what is hidden is left out. PhotoError, which says where, for an archive that
    breaks off, and for a name that is there twice: one of the two would be lost."""
    refuse_pointer(path)
    held: Index = {}
    for member in _members(path):
        place = PurePosixPath(member.name)
        if not member.isreg() or member.issparse() or place.name.startswith(".") or "__MACOSX" in place.parts:
            continue
        parts = held.setdefault(str(place.with_suffix("")), {})
        kind = place.suffix[1:].lower()
        if kind in parts and kind in (*IMAGES, CAPTION):
            raise PhotoError(f"{path} has {member.name} twice: write the shard anew, each name once")
        parts[kind] = Part(member.name, member.offset_data, member.size)
    return held


def pairs(held: Index) -> Iterator[Pair]:
    """The pairs of an archive, and the pictures and captions that lack the other; members need not lie side
    by side. A second picture of a pair, such as a mask (a.seg.png of a.png), and all else are no rows."""
    for name, parts in held.items():
        image, caption = next((parts[k] for k in IMAGES if k in parts), None), parts.get(CAPTION)
        beside = ", ".join(f".{kind}" for kind in sorted(parts))
        if image and caption:
            yield Pair(name, image, caption, "")
        elif caption:
            yield Pair(name, None, caption, f"no picture of that name ({_dotted(IMAGES)}), but {beside}")
        elif image and not _belongs(name, held):
            yield Pair(name, image, None, f"no caption of that name (.{CAPTION}), but {beside}")


def extensions(held: Index) -> Counter[str]:
    """How many members have which ending: all of a name that follows its first dot."""
    return Counter(
        ".".join(["", *PurePosixPath(name).name.split(".")[1:], kind])
        for name, parts in held.items()
        for kind in parts
    )


def wanted() -> str:
    """What a pair is made of, in words."""
    return f"a picture ({_dotted(IMAGES)}) and a caption (.{CAPTION}) of the same name"


def _belongs(name: str, held: Index) -> bool:
    """Whether a picture without caption is a further one of a pair: its name goes on behind a dot."""
    place = PurePosixPath(name)
    first = str(place.with_name(place.name.split(".")[0] or place.name))
    return first != name and CAPTION in held.get(first, {})


def _dotted(kinds: tuple[str, ...]) -> str:
    return ", ".join(f".{kind}" for kind in kinds)


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The members of an archive; PhotoError at its end where that is not the end of the file."""
    at, last, reason = 0, "", ""
    try:
        with tarfile.open(path, "r:") as file:
            while member := file.next():
                file.members = []  # type: ignore[attr-defined]  # the library would keep them all
                yield member
                at, last = file.offset, member.name
            at = file.offset
    except (tarfile.TarError, ValueError, EOFError) as error:
        reason = str(error)
    if reason := reason or _unfinished(path, at):
        if not last:
            raise PhotoError(f"{path} is no tar archive ({reason}): put another copy in its place")
        raise PhotoError(
            f"{path} breaks off at byte {at:,} of {path.stat().st_size:,}, behind {last} ({reason}): what "
            "follows would be lost in silence. Fetch it again, or write it anew"
        )


def _unfinished(path: Path, end: int) -> str:
    """Why an archive whose last member ends there is not whole, or "": nothing but zeros may follow, two
    blocks at least, and no more than archives are filled up with."""
    with path.open("rb") as file:
        file.seek(end)
        rest = file.read(FILLED + 1)
    if any(rest[: tarfile.BLOCKSIZE]):
        return "the next header is damaged"
    if any(rest):
        return "the archive ends there, but other bytes follow"
    if len(rest) > FILLED:
        return "all that can be read from there on are zeros"
    return "" if len(rest) >= 2 * tarfile.BLOCKSIZE else "it is truncated: two empty blocks end an archive"
