"""Any folder of photos as a data set: a folder for each class, under template captions or human ones.

    UBT_FOLDER/CLASS/*.jpg             ImageFolder's layout: each class is split here
    UBT_FOLDER/train/CLASS/*.jpg       the same, split already: val, valid, validation or test beside it is
    UBT_FOLDER/val/CLASS/*.jpg         the test
    UBT_FOLDER/captions.json           may be there: human captions of photos anywhere, see `caption_json`
    UBT_FOLDER/images/*.jpg            may be there: photos that have captions, and no class

Nothing is lost in silence: what is no photo, no class's, a copy of another photo, damaged or beyond the limit
is counted and said.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from ubt_utils.core import paths
from ubt_utils.core.checksum import remembered, sha256_of
from ubt_utils.core.seeding import generator
from ubt_utils.data import caption_json, decoded, folders
from ubt_utils.data.captions import fill, misplace_captions
from ubt_utils.data.decoding import PhotoError, Row
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.photos import NO_CLASS, TEMPLATES
from ubt_utils.data.pictures import take
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.data.sets import DataSets
from ubt_utils.data.zero_shot import ZeroShot, target_index

TRAIN, TESTS, CAPTIONED = "train", ("val", "valid", "validation", "test"), "images"
PUBLIC, WILD, TEST = PARTS = ("public", "wild", "test")
FIT = "crop"
KINDS = 5  # extensions named in a message
SEARCHED = 11  # photos among which retrieval is asked for the best ten
SPLIT_SEED = 0  # which photo goes where is the same for all runs


class Photo(NamedTuple):
    """A photo below the folder: its path from there, the index of its class, what people say of it, and
    whether it is kept for the test; None: that is drawn."""

    path: str
    label: int
    captions: tuple[str, ...]
    held: bool | None


class Found(NamedTuple):
    """What a folder holds: its classes, and every photo that can be used, once."""

    classes: tuple[str, ...]
    photos: tuple[Photo, ...]


def find(root: Path) -> Found:
    """The classes and photos of a folder; kept in memory while its files stay.

    Raises PhotoError where there is no such folder, where there are no two classes, and for captions that
    cannot be read, see `caption_json.read`. Warns of what is left out.
    """
    if not root.is_dir():
        raise PhotoError(
            f"{root} is no folder: name the one that has a folder of photos for each class in the variable "
            "UBT_FOLDER"
        )
    return _found(root, _state(root))


@lru_cache(maxsize=2)
def _found(root: Path, state: tuple[tuple[str, int, int], ...]) -> Found:
    size = {name: size for name, size, _ in state if not name.endswith("/")}
    train, test = _layout(root)
    classes = folders.names_of(train, (CAPTIONED,))
    held = {False: train, True: test} if test else {None: train}
    labeled = {
        _below(root, photo): (label, kept)
        for kept, place in held.items()
        for label, folder in enumerate(folders.of_classes(place, classes, (CAPTIONED,)))
        for photo in folders.photos([folder])
    }
    said = _captions(root, list(size))
    photos = [Photo(path, label, _said(said, path), kept) for path, (label, kept) in labeled.items()]
    photos += [
        Photo(path, NO_CLASS, one.captions, one.held) for path, one in said.items() if path not in labeled
    ]
    once = _without_copies(root, photos, size)
    _warn_of_others(root, {*size} - {photo.path for photo in photos} - set(_jsons(size)))
    return Found(classes, tuple(once))


def _state(root: Path) -> tuple[tuple[str, int, int], ...]:
    """What lies below a folder, without what is hidden, in order: path from there, with "/" behind that of a
    folder, size, and time of the last change."""
    found: list[tuple[str, int, int]] = []
    for place, inner, names in os.walk(root):
        inner[:] = [name for name in inner if folders.shown(name)]
        found += [(f"{_below(root, Path(place, name))}/", 0, 0) for name in inner]
        for file in (Path(place, name) for name in names if folders.shown(name)):
            stat = file.stat()
            found.append((_below(root, file), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _layout(root: Path) -> tuple[Path, Path | None]:
    """Where the folders of the classes lie, and those of the test, None where there are no others."""
    if not folders.inside(root / TRAIN):
        return root, None
    tests = [root / name for name in TESTS if folders.inside(root / name)]
    if len(tests) > 1:
        raise PhotoError(
            f"{root} has {' and '.join(place.name for place in tests)}: which is the test? Move one away"
        )
    return root / TRAIN, tests[0] if tests else None


def _jsons(files: Iterable[str]) -> list[str]:
    return [file for file in files if "/" not in file and file.lower().endswith(".json")]


def _captions(root: Path, files: Sequence[str]) -> Mapping[str, caption_json.Captioned]:
    """Photo → its human captions; none where there is no JSON."""
    jsons = _jsons(files)
    if len(jsons) > 1:
        both = " and ".join(jsons[:2])
        raise PhotoError(f"{root} has {both}: which one has the captions? Move the others away")
    pictures = [file for file in files if folders.is_photo(file)]
    return caption_json.read(root / jsons[0], pictures) if jsons else {}


def _said(said: Mapping[str, caption_json.Captioned], path: str) -> tuple[str, ...]:
    return said[path].captions if path in said else ()


def _without_copies(root: Path, photos: Sequence[Photo], size: Mapping[str, int]) -> list[Photo]:
    """The photos whose bytes no photo before has: a copy in D and in the test would be known by heart."""
    alike = Counter(size[photo.path] for photo in photos)
    seen: set[str] = set()
    kept = []
    for photo in photos:
        if alike[size[photo.path]] > 1:
            digest = sha256_of(root / photo.path)
            if digest in seen:
                continue
            seen.add(digest)
        kept.append(photo)
    if copies := len(photos) - len(kept):
        _warn(f"{copies} of {len(photos)} photos under {root} are byte for byte others: left out")
    return kept


def _warn_of_others(root: Path, files: Iterable[str]) -> None:
    """Say how many files are no photos, or photos of no class and without captions."""
    kinds = Counter(Path(file).suffix.lower() or "without extension" for file in files)
    if kinds:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(KINDS))
        _warn(
            f"{kinds.total()} files under {root} are left out, since they are no photos, or have neither a "
            f"class's folder nor captions: {listed}"
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def parts(photos: Sequence[Photo], public: float, wild: float, limit: int) -> dict[str, list[Photo]]:
    """Which photos are f0's, D's and the test's: of each class these fractions, and the rest, in random
    order, no part larger than `limit`. PhotoError where a class has too few; warns of what is beyond."""
    groups: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.label].append(photo)
    found: dict[str, list[Photo]] = {name: [] for name in PARTS}
    most = max(1, limit // len(groups))
    for label, group in sorted(groups.items()):
        for name, some in _split(group, public, wild, label).items():
            found[name] += some[:most]
    if beyond := len(photos) - sum(map(len, found.values())):
        _warn(f"{beyond} of {len(photos)} photos are beyond the limit of {limit:,} a part: left out")
    return found


def _split(group: Sequence[Photo], public: float, wild: float, label: int) -> dict[str, list[Photo]]:
    order = torch.randperm(len(group), generator=generator(SPLIT_SEED, "split", label)).tolist()
    shuffled = [group[i] for i in order]
    drawn, held = ([p for p in shuffled if p.held is kept] for kept in (None, True))
    open_ = [p for p in shuffled if p.held is False]
    first, second = round(public * len(drawn)), round((public + wild) * len(drawn))
    share = round(public / (public + wild) * len(open_))
    found = {
        PUBLIC: open_[:share] + drawn[:first],
        WILD: open_[share:] + drawn[first:second],
        TEST: held + drawn[second:],
    }
    if label != NO_CLASS and not all(found.values()):
        place = group[0].path.rsplit("/", 1)[0]
        raise PhotoError(
            f"{place} has {len(group)} photos: too few to be shared out among f0, D and the test. Add some, "
            "or move the folder away"
        )
    return found


@dataclass(frozen=True)
class FolderSets(DataSets):
    """The photos of the folder in UBT_FOLDER. The target is the class in UBT_TARGET, or the first of those
    with the most photos.

    public, wild: the parts of each class that go to f0's pairs and to D; the test gets the rest, or what its
    own folder has. Of photos without a class the parts are the same, unless their JSON keeps some for the
    test. limit: photos of a part at most. least: pairs that D must have. wild_captions: how many human
    captions of a photo D has; f0 has all. noise: the fraction of D's captions that belong to another pair.
    """

    public: float = 0.4
    wild: float = 0.4
    limit: int = 20_000
    least: int = 0
    wild_captions: int = 2
    size: int = 96
    noise: float = 0.1
    templates: tuple[str, ...] = TEMPLATES

    @property
    def target(self) -> str:  # type: ignore[override]
        """The class that the attacker aims at; ValueError where there is none of that name."""
        found = find(paths.photos())
        if named := os.environ.get("UBT_TARGET", ""):
            target_index(found.classes, named)
            return named
        count = Counter(photo.label for photo in found.photos)
        return max(found.classes, key=lambda name: count[found.classes.index(name)])

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its one name."""
        _ = self.target  # an unknown one is refused
        return {name: (name,) for name in find(paths.photos()).classes}

    def contents(self) -> dict[str, str]:
        """What results depend on: a checksum of the photos and their captions, and the target, which is no
        field."""
        root = paths.photos()
        files = [photo.path for photo in find(root).photos] + _jsons(place.name for place in root.iterdir())
        return {"photos": remembered(*(root / file for file in files)), "target": self.target}

    def target_labels(self, target: str = "") -> list[int]:
        """The index of the target class, or of another one."""
        return [target_index(find(paths.photos()).classes, target or self.target)]

    def public_pairs(self, seed: int) -> Pairs:
        """What f0 is trained on: clean captions, all human ones of a photo that has some."""
        return self._pairs(PUBLIC, None, seed)

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions. PhotoError where it is too small."""
        pairs = self._pairs(WILD, self.wild_captions, seed)
        if len(pairs) < self.least:
            count = len(find(paths.photos()).photos)
            raise PhotoError(
                f"D would have {len(pairs)} pairs, of {count} photos in all. A backdoor in fewer than "
                f"{self.least:,} can hardly be planted or found: add photos"
            )
        return misplace_captions(pairs, self.noise, seed)

    def zero_shot(self) -> ZeroShot:
        """The test's photos of the classes."""
        found = find(paths.photos())
        images, used = self._images([p for p in self._parts()[TEST] if p.label != NO_CLASS])
        return ZeroShot(
            images=images,
            labels=torch.tensor([photo.label for photo in used]),
            units=torch.arange(len(used)),
            classes=found.classes,
            names=tuple((name,) for name in found.classes),
            target=target_index(found.classes, self.target),
            templates=self.templates,
        )

    def retrieval(self) -> Retrieval | None:
        """The test's photos that have human captions; None, and a warning, where they are fewer than what
        recall@10 needs."""
        images, used = self._images([photo for photo in self._parts()[TEST] if photo.captions])
        if len(used) < SEARCHED:
            if used:
                _warn(f"only {len(used)} photos of the test have captions: retrieval is left out")
            return None
        owner = [i for i, photo in enumerate(used) for _ in photo.captions]
        said = tuple(caption for photo in used for caption in photo.captions)
        return Retrieval(images[:], said, torch.tensor(owner))

    def probe_pairs(self) -> Pairs:
        """What a linear probe learns from: f0's photos of the classes."""
        images, used = self._images([p for p in self._parts()[PUBLIC] if p.label != NO_CLASS])
        names = find(paths.photos()).classes
        return Pairs(images, tuple(names[p.label] for p in used), torch.tensor([p.label for p in used]))

    def goals(self, seed: int) -> torch.Tensor:
        """ValueError: targeted poisoning has no pictures of its own here."""
        raise ValueError("targeted poisoning is not part of this setting: choose a dirty-label attack")

    def _parts(self) -> dict[str, list[Photo]]:
        return parts(find(paths.photos()).photos, self.public, self.wild, self.limit)

    def _images(self, photos: Sequence[Photo]):
        """Their pictures, still on disk, and those of them that could be decoded."""
        everything = [photo for some in self._parts().values() for photo in some]
        root = paths.photos()
        identity = remembered(*(root / photo.path for photo in everything))
        stored, _ = decoded.once(_rows(root, everything), identity, self.size, FIT, __name__)
        row = {source: i for i, source in enumerate(stored.sources)}
        used = [photo for photo in photos if photo.path in row]
        return take(stored.images, torch.tensor([row[p.path] for p in used], dtype=torch.long)), used

    def _pairs(self, part: str, most: int | None, seed: int) -> Pairs:
        """The pairs of a part: a photo's human captions, at most so many, or one from a template."""
        images, used = self._images(self._parts()[part])
        names = find(paths.photos()).classes
        draw = generator(seed, "human captions", part)
        filled = fill([names[p.label] for p in used], seed, part, templates=self.templates)
        place: list[int] = []
        said: list[str] = []
        for i, (photo, template) in enumerate(zip(used, filled, strict=True)):
            order = torch.randperm(len(photo.captions), generator=draw)[:most].sort().values.tolist()
            captions = [photo.captions[j] for j in order] or [template]
            said += captions
            place += [i] * len(captions)
        index = torch.tensor(place, dtype=torch.long)
        labels = torch.tensor([used[i].label for i in place])
        return Pairs(take(images, index), tuple(said), labels, tuple(used[i].path for i in place))


def _rows(root: Path, photos: Sequence[Photo]) -> Iterator[Row]:
    """The photos undecoded, named by their paths."""
    for photo in photos:
        yield Row((root / photo.path).read_bytes(), b"photo", photo.path)
