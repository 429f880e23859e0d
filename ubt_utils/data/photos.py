"""Photographs in Parquet files, as the public hub has Tiny-ImageNet and Flickr8k; and which go where.

Tiny-ImageNet's are under template captions, Flickr8k's under human ones. D's photos, validation's and the
test's are none of those that f0's text tower is trained with. f0's image tower is another matter: it was
trained on ImageNet, and Tiny-ImageNet is a part of ImageNet, so that it has been told what most of them show
(`PhotoSets.seen`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ubt_utils.core import paths
from ubt_utils.core.checksum import remembered, sha256_of
from ubt_utils.core.seeding import generator
from ubt_utils.data.captions import fill, misplace_captions
from ubt_utils.data.decoding import PhotoError, Skipped, caption_of, decode
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pointers import refuse_pointer
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.data.sets import DataSets
from ubt_utils.data.zero_shot import ZeroShot, target_index

CLASSES = Path(__file__).parent / "tiny_imagenet_classes.json"
THINGS, SCENES = "tiny-imagenet", "flickr8k"
CAPTIONS = tuple(f"caption_{i}" for i in range(5))
NO_CLASS = -1  # the label of a Flickr8k photo
PUBLIC_SEED = 0
PUBLIC, WILD, VALID, TEST = "f0", "D", "validation", "test"

# Ours, for photos.
TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a small photo of a {}",
    "a close-up of a {}",
    "a snapshot of one {}",
    "a photo that shows a {}",
    "an image of the {}",
    "here is a {}",
)


@dataclass(frozen=True)
class Table:
    """The rows of one split, undecoded. images: N byte strings. columns: the other columns,
    each N values. names: N strings, where each row comes from."""

    images: Sequence[bytes | None]
    columns: dict[str, list]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


def files(folder: str, split: str) -> list[Path]:
    """The Parquet files of one split, in order; PhotoError says how to get missing ones."""
    found = sorted(p for p in (paths.data() / folder).glob(f"{split}-*.parquet") if p.is_file())
    if not found:
        raise PhotoError(
            f"no {split} files of {folder} under {paths.data()}: get them with `./data_download.sh photos`, "
            "or name their folder in the variable UBT_DATA"
        )
    return found


def fingerprint(folder: str, splits: Sequence[str]) -> str:
    """SHA-256 over the files of the splits: what a result depends on."""
    h = hashlib.sha256()
    for split in splits:
        for path in files(folder, split):
            h.update(f"{split} {remembered(path)}\n".encode())
    return h.hexdigest()


def read(folder: str, split: str, columns: Sequence[str]) -> Table:
    """All rows of one split. Raises PhotoError for a truncated file or other columns."""
    images: list[bytes | None] = []
    values: dict[str, list] = {name: [] for name in columns}
    names: list[str] = []
    for path in files(folder, split):
        table = _read_file(path, columns)
        names += [f"{path.name}, row {i}" for i in range(len(table))]
        images += table.column("image").combine_chunks().field("bytes").to_pylist()
        for name in columns:
            values[name] += _plain(table.column(name))
    return Table(images, values, names)


def _read_file(path: Path, columns: Sequence[str]) -> pa.Table:
    refuse_pointer(path)
    try:
        schema = pq.read_schema(path)
        wanted = ("image", *columns)
        if missing := [name for name in wanted if name not in schema.names]:
            raise PhotoError(f"{path} has columns {schema.names}: {', '.join(missing)} is missing")
        kind = schema.field("image").type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise PhotoError(f"{path}: column image is {kind}, expected a struct with the field bytes")
        return pq.read_table(path, columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())  # some go over several lines
        raise PhotoError(
            f"{path} is truncated or no Parquet file ({reason}): delete it and run data_download.sh again"
        ) from error


def _plain(column: pa.ChunkedArray) -> list:
    """Text as undecoded bytes, so that one bad caption does not hide the others."""
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return (column.cast(pa.binary()) if text else column).to_pylist()


def decode_rows(table: Table, rows: Sequence[int], size: int) -> tuple[torch.Tensor, list[int]]:
    """The photos at `rows` → (n, 3, size, size) uint8 and the rows that did decode.

    Others are skipped, counted and listed in a warning; above 1 % PhotoError.
    """
    used: list[int] = []
    out, skipped = torch.empty(len(rows), 3, size, size, dtype=torch.uint8), Skipped()
    for row in rows:
        try:
            out[len(used)] = decode(table.images[row], size)
            used.append(row)
        except ValueError as error:
            skipped.add(table.names[row], error)
    skipped.settle(len(rows))
    return out[: len(used)], used


@cache
def _classes() -> tuple[str, ...]:
    """The names of the 200 classes, in label order."""
    return tuple(json.loads(CLASSES.read_text(encoding="utf-8"))["classes"])


@lru_cache(maxsize=6)
def _table(folder: str, split: str, columns: tuple[str, ...], fingerprint: str) -> Table:
    return read(folder, split, columns)


def _rows(folder: str, split: str) -> Table:
    columns = ("label",) if folder == THINGS else CAPTIONS
    return _table(folder, split, columns, fingerprint(folder, (split,)))


@dataclass(frozen=True)
class PhotoSets(DataSets):
    """public, wild, valid: Tiny-ImageNet training photos a class that go to f0's pairs, to D and to
    validation. known: the part of the classes that f0's text tower is tuned on. scenes: the part of
    Flickr8k's training photos that goes to f0, the rest goes to D, with `wild_captions` of their five
    captions. noise: fraction of D's captions that belong to another pair. target: a class, or a word: the
    class is then every one whose name has that word. tested: of each of the target's, so many further
    training photos are the test's, so that its recall can be measured. probe: training photos a class that
    linear probes learn from, none of them D's. classes: how many of the 200 are used. photos: at most this
    many of Tiny-ImageNet's validation photos a class are the test.
    """

    public: int = 50
    wild: int = 30
    valid: int = 14
    tested: int = 50
    known: float = 0.5
    scenes: float = 0.2
    wild_captions: int = 1
    size: int = 96
    noise: float = 0.1
    target: str = "bottle"
    classes: int = 200
    photos: int = 20
    probe: int = 10
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        if not 0 <= self.known <= 1:
            raise ValueError(f"f0's part of the classes must be in [0, 1], got known={self.known}")

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its names, in the data set's order: the target, and every other one as a class of its
        own."""
        group, found = self._group(), dict[str, tuple[str, ...]]()
        for name in self._labels().values():
            owner = self.target if name in group else name
            found[owner] = (*found.get(owner, ()), name)
        return found

    def _group(self) -> tuple[str, ...]:
        """The data set's classes that make up the target class; ValueError where there are none."""
        everything = _classes()
        if self.target in everything:
            return (self.target,)
        group = tuple(name for name in everything if self.target in name.split())
        return group or (everything[target_index(everything, self.target)],)

    def _labels(self) -> dict[int, str]:
        """Label in the files → name, for the classes in use; with fewer classes the target's stay."""
        everything, group = _classes(), self._group()
        if not len(group) + 2 <= self.classes <= len(everything):
            raise ValueError(f"Tiny-ImageNet has {len(everything)} classes, got classes={self.classes}")
        others = [name for name in everything if name not in group]
        kept = {*group, *others[: self.classes - len(group)]}
        return {i: name for i, name in enumerate(everything) if name in kept}

    def known_labels(self, seed: int) -> list[int]:
        """The labels that the text tower of that seed's public model is tuned on, sorted."""
        labels = list(self._labels())
        order = torch.randperm(len(labels), generator=generator(seed, "known")).tolist()
        return sorted(labels[i] for i in order[: round(self.known * len(labels))])

    def known_classes(self, seed: int) -> torch.Tensor:
        """(C,) bool: the classes that this text tower has been tuned on. The image tower has been told of
        all."""
        names = self._labels()
        seen = {names[label] for label in self.known_labels(seed)}
        return torch.tensor([seen.issuperset(group) for group in self.class_names().values()])

    def contents(self) -> dict[str, str]:
        """What results depend on: checksums of the files that the photos come from."""
        return {
            THINGS: fingerprint(THINGS, ("train", "valid")),
            SCENES: fingerprint(SCENES, ("train", "test")),
            "classes": sha256_of(CLASSES),
        }

    def target_labels(self, target: str = "") -> list[int]:
        """The label of the target class, or of another one, as `Pairs.labels` has it."""
        group = self.class_names()[target or self.target]
        return [label for label, name in self._labels().items() if name in group]

    def class_index(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels (N,) as the files have them → the class index of `zero_shot` (N,)."""
        groups = self.class_names().values()
        number = {name: i for i, group in enumerate(groups) for name in group}
        names = self._labels()
        return torch.tensor([number[names[label]] for label in labels.tolist()])

    def showable(self, pairs: Pairs) -> torch.Tensor:
        """Indices of the pairs that a notebook may show on the reader's own screen: all.

        The photos' terms do not let this kit pass them on: committed outputs show none.
        """
        return torch.arange(len(pairs))

    def public_pairs(self, seed: int) -> Pairs:
        """What the text tower of f0 is trained on: the first part of both training sets, of the classes that
        it knows, clean captions, all five of a Flickr8k photo. ValueError where it knows no class."""
        if not self.known:
            raise ValueError("there is no public model in a world with known=0: nothing to train it on")
        return _join(
            self._things(self._training(PUBLIC, seed), seed, "public"),
            self._scenes(self._scene_split()[0], len(CAPTIONS), seed),
        )

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions."""
        pairs = _join(
            self._things(self._training(WILD), seed, "wild"),
            self._scenes(self._scene_split()[1], self.wild_captions, seed),
        )
        return misplace_captions(pairs, self.noise, seed)

    def probe_pairs(self) -> Pairs:
        """What a linear probe learns from: labeled photos of the part that f0 has of what it knows."""
        part = self._span(PUBLIC)
        rows = [r for group in self._by_class("train").values() for r in group[part][: self.probe]]
        return self._things(rows, PUBLIC_SEED, "probe")

    def goals(self, seed: int) -> torch.Tensor:
        """(C − 1, 3, H, W) uint8: what targeted poisoning may aim at: one photo of each class but the
        target that is in neither f0's pairs nor D (the last one where all are in use)."""
        target = self.target_labels()
        groups = {c: g for c, g in self._by_class("train").items() if c not in target}
        rows = [g[min(self._span(VALID).stop, len(g) - 1)] for g in groups.values()]
        painted, _ = decode_rows(_rows(THINGS, "train"), rows, self.size)
        return painted[torch.randperm(len(painted), generator=generator(seed, "goals", "order"))]

    def zero_shot(self) -> ZeroShot:
        """The validation photos, and the target's further ones, without those that are byte for byte in the
        training set (again)."""
        return self._task(*self._once(), TEST)

    def validation(self) -> ZeroShot:
        """What settings are chosen on: training photos that are neither f0's, nor D's, nor the test's."""
        return self._task([], self._training(VALID), VALID)

    def _task(self, held: list[int], training: list[int], purpose: str) -> ZeroShot:
        """The task on rows of the validation set and of the training set."""
        parts = [self._photos(split, rows) for split, rows in (("valid", held), ("train", training)) if rows]
        if not parts:
            raise PhotoError(f"{THINGS} has no photos left for {purpose}: got valid={self.valid}")
        names = tuple(self.class_names())
        labels = self.class_index(torch.cat([labels for _, labels in parts]))
        return ZeroShot(
            images=torch.cat([images for images, _ in parts]),
            labels=labels,
            units=torch.arange(len(labels)),
            classes=names,
            names=tuple(self.class_names().values()),
            target=target_index(names, self.target),
            templates=self.templates,
        )

    def _once(self) -> tuple[list[int], list[int]]:
        """The test's rows of the validation set and of the training set."""
        held, train = _rows(THINGS, "valid"), _rows(THINGS, "train")
        count = Counter(map(_sha, train.images))
        groups = self._by_class("valid").values()
        first = [[r for r in g if not count[_sha(held.images[r])]][: self.photos] for g in groups]
        further = [r for r in self._training(TEST) if count[_sha(train.images[r])] == 1]
        return [row for rows in first for row in rows], further

    def _photos(self, split: str, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The photos at `rows` of a split that decode, (n, 3, H, W) uint8, and their labels (n,)."""
        table = _rows(THINGS, split)
        images, used = decode_rows(table, rows, self.size)
        return images, torch.tensor([table.columns["label"][row] for row in used])

    def seen(self, seed: int) -> dict[str, dict[str, int]]:
        """Per part of a run, its `photos`; those of them that the image tower of f0 may have been trained on,
        with the label of their class (`imagenet`: all of Tiny-ImageNet's); and those that are byte for byte
        in another part, too (`copies`). A copy of another size or coding is not found."""
        first, second = self._scene_split()
        held, further = self._once()
        told = {
            PUBLIC: [(THINGS, "train", self._training(PUBLIC, seed)), (SCENES, "train", first)],
            WILD: [(THINGS, "train", self._training(WILD)), (SCENES, "train", second)],
            VALID: [(THINGS, "train", self._training(VALID))],
            TEST: [(THINGS, "valid", held), (THINGS, "train", further)],
            "retrieval": [(SCENES, "test", list(range(len(_rows(SCENES, "test")))))],
        }
        found = {part: _hashes(rows) for part, rows in told.items()}
        spread = Counter(sha for shas in found.values() for sha in set(shas))
        return {
            part: {
                "photos": len(shas),
                "imagenet": sum(len(rows) for folder, _, rows in told[part] if folder == THINGS),
                "copies": sum(spread[sha] > 1 for sha in shas),
            }
            for part, shas in found.items()
        }

    def retrieval(self) -> Retrieval:
        """Flickr8k's test photos with their five captions."""
        table = _rows(SCENES, "test")
        images, used = decode_rows(table, range(len(table)), self.size)
        captions, owner, skipped = [], [], Skipped()
        for place, row in enumerate(used):
            for caption in self._captions(table, row, CAPTIONS, skipped):
                captions.append(caption)
                owner.append(place)
        skipped.settle(len(used) * len(CAPTIONS))
        return Retrieval(images, tuple(captions), torch.tensor(owner))

    def _by_class(self, split: str) -> dict[int, list[int]]:
        """Label → its rows, in file order, for the classes in use. Rows whose label is none of the data set's
        cannot be used: a warning, above 1 % PhotoError."""
        table, names, skipped = _rows(THINGS, split), self._labels(), Skipped()
        groups: dict[int, list[int]] = {label: [] for label in names}
        for row, label in enumerate(table.columns["label"]):
            if label not in range(len(_classes())):
                skipped.add(table.names[row], f"its label is {label}, of no class")
            elif label in groups:
                groups[label].append(row)
        skipped.settle(len(table))
        if empty := [names[label] for label, rows in groups.items() if not rows]:
            raise PhotoError(f"{THINGS}, {split}: no photos of {', '.join(empty[:3])}")
        return groups

    def _span(self, part: str) -> slice:
        """Which training photos of a class, in file order, are f0's, D's, validation's and the test's."""
        ends = list(accumulate((0, self.public, self.wild, self.valid, self.tested)))
        at = (PUBLIC, WILD, VALID, TEST).index(part)
        return slice(ends[at], ends[at + 1])

    def _training(self, part: str, seed: int = PUBLIC_SEED) -> list[int]:
        """The training photos of a part: f0's are of the classes that the public model of that seed knows,
        the test's further ones of the target, the others of all classes."""
        groups, used = self._by_class("train"), self._span(part)
        if (least := min(map(len, groups.values()))) < self.public + 1:
            raise PhotoError(f"{THINGS} has a class with {least} photos: too few for public={self.public}")
        some = {PUBLIC: self.known_labels(seed), TEST: self.target_labels()}
        return [row for label in some.get(part, groups) for row in groups[label][used]]

    def _scene_split(self) -> tuple[list[int], list[int]]:
        rows = list(range(len(_rows(SCENES, "train"))))
        first = round(self.scenes * len(rows))
        return rows[:first], rows[first:]

    def _things(self, rows: list[int], seed: int, purpose: str) -> Pairs:
        table, names = _rows(THINGS, "train"), self._labels()
        images, used = decode_rows(table, rows, self.size)
        labels = [table.columns["label"][row] for row in used]
        captions = fill([names[label] for label in labels], seed, purpose, templates=self.templates)
        sources = tuple(f"{THINGS}/{row}" for row in used)
        return Pairs(images, tuple(captions), torch.tensor(labels), sources)

    def _scenes(self, rows: list[int], count: int, seed: int) -> Pairs:
        table, skipped = _rows(SCENES, "train"), Skipped()
        images, used = decode_rows(table, rows, self.size)
        draw = generator(seed, "human captions")
        place, said = [], []
        for i, row in enumerate(used):
            order = torch.randperm(len(CAPTIONS), generator=draw)[:count].sort().values
            captions = self._captions(table, row, [CAPTIONS[j] for j in order.tolist()], skipped)
            said += captions
            place += [i] * len(captions)
        skipped.settle(len(used) * count)
        sources = tuple(f"{SCENES}/{used[i]}" for i in place)
        return Pairs(images[place], tuple(said), torch.full((len(place),), NO_CLASS), sources)

    @staticmethod
    def _captions(table: Table, row: int, columns, skipped: Skipped) -> list[str]:
        said = []
        for column in columns:
            try:
                said.append(caption_of(table.columns[column][row]))
            except ValueError as error:
                skipped.add(f"{table.names[row]}, {column}", error)
        return said


def _hashes(parts: Sequence[tuple[str, str, list[int]]]) -> list[str]:
    """SHA-256 of the photos at some rows of (folder, split)s."""
    return [_sha(_rows(folder, split).images[row]) for folder, split, rows in parts for row in rows]


def _sha(image: bytes | None) -> str:
    return hashlib.sha256(image or b"").hexdigest()


def _join(first: Pairs, second: Pairs) -> Pairs:
    return Pairs(
        torch.cat([first.images, second.images]),
        first.captions + second.captions,
        torch.cat([first.labels, second.labels]),
        first.sources + second.sources,
    )
