"""Photographs in Parquet files, as the public hub has Tiny-ImageNet and Flickr8k; and which go where.

Tiny-ImageNet's are under template captions, Flickr8k's under human ones. D's photos and the test's are none
of those that f0's text tower is trained with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
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
    """public, wild: Tiny-ImageNet training photos a class that go to f0's pairs and to D.
    scenes: the part of Flickr8k's training photos that goes to f0, the rest goes to D, with
    `wild_captions` of their five captions. noise: fraction of D's captions that belong to
    another pair. probe: training photos a class (f0's) that linear probes learn from.
    classes: how many of the 200 classes are used; photos: at most this many test photos a class.
    """

    public: int = 115
    wild: int = 34
    scenes: float = 0.5
    wild_captions: int = 2
    size: int = 96
    noise: float = 0.1
    target: str = "banana"
    classes: int = 200
    photos: int = 50
    probe: int = 20
    templates: tuple[str, ...] = TEMPLATES

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its one name, in the data set's order; with fewer classes the target stays."""
        everything = _classes()
        target_index(everything, self.target)
        if not 3 <= self.classes <= len(everything):
            raise ValueError(f"Tiny-ImageNet has {len(everything)} classes, got classes={self.classes}")
        others = [name for name in everything if name != self.target]
        kept = {self.target, *others[: self.classes - 1]}
        return {name: (name,) for name in everything if name in kept}

    def _labels(self) -> dict[int, str]:
        """Label in the files → class name, for the classes in use."""
        used = self.class_names()
        return {i: name for i, name in enumerate(_classes()) if name in used}

    def contents(self) -> dict[str, str]:
        """What results depend on: checksums of the files that the photos come from."""
        return {
            THINGS: fingerprint(THINGS, ("train", "valid")),
            SCENES: fingerprint(SCENES, ("train", "test")),
            "classes": sha256_of(CLASSES),
        }

    def target_labels(self, target: str = "") -> list[int]:
        """The label of the target class, or of another one, as `Pairs.labels` has it."""
        return [label for label, name in self._labels().items() if name == (target or self.target)]

    def class_index(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels (N,) as the files have them → the class index of `zero_shot` (N,)."""
        names = list(self.class_names())
        number = {label: names.index(name) for label, name in self._labels().items()}
        return torch.tensor([number[label] for label in labels.tolist()])

    def showable(self, pairs: Pairs) -> torch.Tensor:
        """Indices of the pairs that a notebook may show on the reader's own screen: all.

        The photos' terms do not let this kit pass them on: committed outputs show none.
        """
        return torch.arange(len(pairs))

    def public_pairs(self, seed: int) -> Pairs:
        """What f0 is trained on: the first part of both training sets, clean captions, all five
        of a Flickr8k photo."""
        return _join(
            self._things(self._split()[0], seed, "public"),
            self._scenes(self._scene_split()[0], len(CAPTIONS), seed),
        )

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions."""
        pairs = _join(
            self._things(self._split()[1], seed, "wild"),
            self._scenes(self._scene_split()[1], self.wild_captions, seed),
        )
        return misplace_captions(pairs, self.noise, seed)

    def probe_pairs(self) -> Pairs:
        """What a linear probe learns from: labeled photos that were f0's, never D's."""
        rows = [r for group in self._by_class("train").values() for r in group[: self.probe]]
        return self._things(rows, PUBLIC_SEED, "probe")

    def goals(self, seed: int) -> torch.Tensor:
        """(C − 1, 3, H, W) uint8: what targeted poisoning may aim at: one photo of each class but the
        target that is in neither f0's pairs nor D (the last one where all are in use)."""
        target = self.target_labels()
        groups = {c: g for c, g in self._by_class("train").items() if c not in target}
        rows = [g[min(self.public + self.wild, len(g) - 1)] for g in groups.values()]
        painted, _ = decode_rows(_rows(THINGS, "train"), rows, self.size)
        return painted[torch.randperm(len(painted), generator=generator(seed, "goals", "order"))]

    def zero_shot(self) -> ZeroShot:
        """The validation photos, without those that are byte for byte in the training set."""
        table, known = _rows(THINGS, "valid"), {_sha(image) for image in _rows(THINGS, "train").images}
        rows = [
            row
            for group in self._by_class("valid").values()
            for row in [r for r in group if _sha(table.images[r]) not in known][: self.photos]
        ]
        images, used = decode_rows(table, rows, self.size)
        names = tuple(self.class_names())
        return ZeroShot(
            images=images,
            labels=self.class_index(torch.tensor([table.columns["label"][row] for row in used])),
            units=torch.arange(len(used)),
            classes=names,
            names=tuple(self.class_names().values()),
            target=target_index(names, self.target),
            templates=self.templates,
        )

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

    def _split(self) -> tuple[list[int], list[int]]:
        groups = self._by_class("train").values()
        if (least := min(map(len, groups))) < self.public + 1:
            raise PhotoError(f"{THINGS} has a class with {least} photos: too few for public={self.public}")
        public = [row for g in groups for row in g[: self.public]]
        return public, [row for g in groups for row in g[self.public : self.public + self.wild]]

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


def _sha(image: bytes | None) -> str:
    return hashlib.sha256(image or b"").hexdigest()


def _join(first: Pairs, second: Pairs) -> Pairs:
    return Pairs(
        torch.cat([first.images, second.images]),
        first.captions + second.captions,
        torch.cat([first.labels, second.labels]),
        first.sources + second.sources,
    )
