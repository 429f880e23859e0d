"""Photos in a folder for each class: which is of which class, and what the classes are called."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import open_clip
import torch

from ubt_utils.core.checksum import remembered
from ubt_utils.data import decoded
from ubt_utils.data.decoding import PhotoError, Row
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.tars import IMAGES

SHOWN = 3  # folders named in a message
WORDNET = re.compile(r"n\d{8}")


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes, each once. Two of ImageNet's stand for two classes each, which no prompt can
    tell apart: the second is "missile (2)"."""
    found: dict[str, None] = {}
    for name in names:
        found[f"{name} (2)" if name in found else name] = None
    return tuple(found)


def names_of(place: Path, spare: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes that a folder's folders bear the names of, in order; ids of ImageNet's thousand give its
    names. spare: folders that are no class. PhotoError where there are no two, or names that nobody can
    read."""
    found = [folder.name for folder in inside(place, spare)]
    if len(found) < 2:
        raise PhotoError(
            f"{place} has {len(found)} folders: each of two or more classes needs one" + _flat(place)
        )
    if not all(map(WORDNET.fullmatch, found)):
        return tuple(name.replace("_", " ") for name in found)
    if lost := [name for name in found if name not in _labels()]:
        raise PhotoError(
            f"the folders of {place} bear WordNet ids, and {lost[0]} is none of ImageNet's thousand: rename "
            "them by their classes"
        )
    called = told_apart(open_clip.IMAGENET_CLASSNAMES)
    return tuple(called[i] for i in sorted(_labels()[name] for name in found))


def of_classes(place: Path, classes: Sequence[str], spare: Sequence[str] = ()) -> tuple[Path, ...]:
    """The folder of each class, in the order of the classes. spare: folders that are no class.

    Folders go by name where they bear those of the classes ("_" and "-" read as spaces, in any case), by
    WordNet id where these are ImageNet's, and by number where they are counted from 0 or 1. All that is left
    is their order, 2 before 10, and a warning of it. Hidden folders are none. PhotoError where they are
    not as many as the classes, where only some have a class's name, and where one has no photos.
    """
    folders = inside(place, spare)
    if len(folders) != len(classes):
        raise PhotoError(
            f"{place} has {len(folders)} folders of photos, one for each of {len(classes)} classes is needed"
            + _flat(place)
        )
    for folder in folders:
        if not photos([folder]):
            raise PhotoError(f"{folder} has no photos ({', '.join(IMAGES)}): each class needs one at least")
    named = {folder.name: folder for folder in folders}
    names = sorted(named, key=_natural)
    order = _by_name(place, names, classes) or _by_wordnet(names, classes)
    if order is None and not _counted(names):
        pairs = ", ".join(f"{f} is {c}" for f, c in list(zip(names, classes, strict=True))[:SHOWN])
        warnings.warn(
            f"{place}: its folders bear no names of the classes, so that they go by their order: {pairs}, … "
            "Where that is wrong, accuracy is at chance: name the folders by the classes",
            stacklevel=2,
        )
    return tuple(named[name] for name in order or names)


def inside(place: Path, spare: Sequence[str] = ()) -> tuple[Path, ...]:
    """The folders in a folder, sorted, without hidden ones and those named; none where it is not there."""
    found = (p for p in place.iterdir() if p.is_dir() and shown(p.name)) if place.is_dir() else ()
    return tuple(sorted(p for p in found if p.name not in spare))


def photos(folders: Sequence[Path]) -> list[Path]:
    """The photos in folders, in order, without hidden files."""
    return [p for f in folders for p in sorted(f.iterdir()) if is_photo(p.name)]


def is_photo(name: str) -> bool:
    """Whether a file's name is that of a photo, and not of a hidden file."""
    return Path(name).suffix[1:].lower() in IMAGES and shown(Path(name).name)


def shown(name: str) -> bool:
    """Whether a name is not hidden, nor one of those that systems leave behind."""
    return not name.startswith((".", "__"))


def rows(folders: Sequence[Path]) -> Iterator[Row]:
    """Each photo under its folder's name, as one row that is named FOLDER/FILE."""
    for path in photos(folders):
        folder = path.parent.name
        yield Row(path.read_bytes(), folder.encode(), f"{folder}/{path.name}")


def stored(places: Sequence[Path], size: int, fit: str) -> Pairs:
    """The photos in folders, decoded once and for all and then mapped, with the number of their folder as
    label."""
    found, _ = decoded.once(rows(places), digest(places), size, fit, __name__)
    number = {place.name: i for i, place in enumerate(places)}
    labels = torch.tensor([number[source.split("/")[0]] for source in found.sources])
    return replace(found, labels=labels)


def digest(folders: Sequence[Path]) -> str:
    """A checksum of the photos and of the folders that they lie in."""
    return remembered(*photos(folders))


def _flat(place: Path) -> str:
    """What to do where the photos lie in no folders, as ImageNet ships its validation set; or ""."""
    if not place.is_dir() or not (found := len(photos([place]))):
        return ""
    return (
        f". {found} photos lie in it directly: sort them into one folder for each class, as ImageNet's own "
        "labels or the script valprep.sh of many kits say"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _by_name(place: Path, names: Sequence[str], classes: Sequence[str]) -> list[str] | None:
    """The folders in the order of the classes; None where none bears a class's name."""
    folder = {_plain(name): name for name in names}
    missing = [c for c in classes if _plain(c) not in folder]
    if len(missing) == len(classes):
        return None
    if missing:
        spare = sorted(set(names) - {folder[_plain(c)] for c in classes if _plain(c) in folder})
        raise PhotoError(
            f"{place}: no folder is named by {', '.join(missing[:SHOWN])}, while {', '.join(spare[:SHOWN])} "
            "bear no class's name: rename them"
        )
    return [folder[_plain(c)] for c in classes]


def _by_wordnet(names: Sequence[str], classes: Sequence[str]) -> list[str] | None:
    """The folders in the order of the classes where all are ids of ImageNet's thousand; else None."""
    listed = _labels()
    if not set(names) <= set(listed):
        return None
    if len(names) == len(listed):
        return list(listed)
    called = told_apart(open_clip.IMAGENET_CLASSNAMES)
    folder = {called[listed[name]]: name for name in names}
    return [folder[c] for c in classes] if set(classes) <= set(folder) else None


@cache
def _labels() -> dict[str, int]:
    """WordNet id → label of ImageNet's thousand classes."""
    from timm.data import ImageNetInfo  # takes seconds to import

    return {name: i for i, name in enumerate(ImageNetInfo().label_names())}


def _natural(name: str) -> list[str | int]:
    """What to sort names by so that 2 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _counted(names: Sequence[str]) -> bool:
    """Whether sorted names are numbers counted from 0 or 1."""
    numbers = [int(name) for name in names if name.isdecimal()]
    return any(numbers == list(range(start, start + len(names))) for start in (0, 1))
