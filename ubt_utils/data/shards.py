"""Pairs from webdataset shards (as img2dataset writes them) or a table, and ImageNet's photos as the test.

Nothing is downloaded here: pairs lie as *.tar shards, or as pairs.csv, in one folder, the test as one folder
of photos per class in another, both under the data root.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import open_clip
import torch
from torchvision.transforms.functional import to_pil_image
from tqdm.auto import tqdm

from ubt_utils.core import paths
from ubt_utils.core.checksum import remembered
from ubt_utils.core.seeding import generator
from ubt_utils.data import decoded, folders, tables, tars
from ubt_utils.data.captions import OPENAI_TEMPLATES
from ubt_utils.data.decoded import Told, Unread
from ubt_utils.data.decoding import PhotoError, Row
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pointers import refuse_pointer
from ubt_utils.data.sets import DataSets
from ubt_utils.data.zero_shot import ZeroShot, target_index

CSV = "pairs.csv"
TABLES = (".csv", ".tsv", ".txt")  # extensions that a table may have
NAMED = 5  # extensions named in a message


def fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over the files' bytes, in order: what a store depends on."""
    h = hashlib.sha256()
    for path in paths:
        h.update(remembered(path).encode())
    return h.hexdigest()


def shards(folder: Path) -> list[Path]:
    """The shards of a folder, in order. Raises PhotoError where there are none, or where one was not
    written to its end: webdataset would read it as a shorter one."""
    found = sorted(folder.glob("*.tar"))
    if not found:
        raise PhotoError(
            f"no shards (*.tar) under {folder}: fetch some with ./data_download.sh paper, or write them with "
            "img2dataset --output_format webdataset"
        )
    for path in found:
        refuse_pointer(path)
        if not _ends(path):
            raise PhotoError(
                f"{path} is truncated: a shard ends with two empty blocks. Delete it and fetch it again"
            )
    return found


def _ends(path: Path) -> bool:
    size, block = path.stat().st_size, tarfile.BLOCKSIZE
    if size < 2 * block or size % block:
        return False
    with path.open("rb") as file:
        file.seek(-2 * block, 2)
        return not any(file.read())


def members(paths: Sequence[Path], names: Collection[str]) -> dict[str, str]:
    """Name → member with the picture, of the rows of shards that have these names."""
    held = (path for path in paths if any(name.startswith(f"{path.name}, ") for name in names))
    found = ((_row(path, pair), pair.image) for path in held for pair in tars.pairs(tars.index(path)))
    return {name: image.name for name, image in found if image and name in names}


def _row(path: Path, pair: tars.Pair) -> str:
    """What the row of a pair is called."""
    return f"{path.name}, {pair.name}"


def from_shards(paths: Sequence[Path]) -> Iterator[Row | Unread]:
    """The rows of shards, in order. Nothing but pictures and captions is read, nothing is unpickled.

    PhotoError, before the first row, where a shard breaks off, and where all of them have no pair.
    """
    _check(paths)
    for path in paths:
        with path.open("rb") as file:
            for pair in tars.pairs(tars.index(path)):
                name = _row(path, pair)
                if pair.image is None or pair.caption is None:
                    yield Unread(name, pair.reason)
                else:
                    yield Row(_part(file, pair.image), _part(file, pair.caption), name)


def from_csv(path: Path, images: Path | None = None) -> Iterator[Row | Unread]:
    """The rows of a table, see `tables.Table`."""
    return tables.Table(path, images).rows()


def _check(paths: Sequence[Path]) -> None:
    """Walk all headers, so that nothing is decoded of what would be refused later."""
    ends: Counter[str] = Counter()
    found = 0
    for path in tqdm(paths, "check shards", unit="shard", leave=False, delay=3):
        held = tars.index(path)
        whole = sum(not pair.reason for pair in tars.pairs(held))
        ends += Counter() if whole else tars.extensions(held)
        found += whole
    if not found:
        listed = ", ".join(f"{kind or 'none'} ({count})" for kind, count in ends.most_common(NAMED))
        raise PhotoError(
            f"{paths[0].parent} has shards without any pair. Wanted is {tars.wanted()}; their members end in "
            f"{listed or 'nothing: they are empty'}"
        )


def _part(file: BinaryIO, part: tars.Part) -> bytes:
    file.seek(part.start)
    return file.read(part.size)


@dataclass(frozen=True)
class Source:
    """Where pairs come from: one table, or shards. images: a second folder that a table's paths may lie
    in."""

    files: tuple[Path, ...]
    images: Path | None = None

    def identity(self) -> str:
        """A checksum of all that is read."""
        return self._table().identity() if self._is_table() else fingerprint(self.files)

    def rows(self) -> Iterator[Row | Unread]:
        """The rows, in order. PhotoError, before the first, where pairs would be lost in silence."""
        return self._table().rows() if self._is_table() else from_shards(self.files)

    def paths(self, names: Collection[str]) -> dict[str, str]:
        """Name → path of the picture, as the table writes it, or the shard's member, of the rows that have
        these names."""
        return self._table().paths(names) if self._is_table() else members(self.files, names)

    def _is_table(self) -> bool:
        return self.files[0].suffix != ".tar"

    def _table(self) -> tables.Table:
        return tables.Table(self.files[0], self.images)


def source(path: Path, images: Path | None = None) -> Source:
    """The pairs that lie there: a table, a shard, or a folder with pairs.csv, with shards, or with one other
    table. images: see `tables.Table`. PhotoError where there is nothing of the kind, ValueError for images
    that are no folder, or beside shards, which hold theirs."""
    if images and not images.is_dir():
        raise ValueError(f"{images} is no folder: name the one that the paths in the table begin at")
    found = Source(_files(path), images)
    if images and found.files[0].suffix == ".tar":
        raise ValueError(f"{path} is shards, which hold their pictures: name no folder of images")
    return found


def stored(found: Source, size: int, fit: str = "crop") -> tuple[Pairs, Told]:
    """The pairs of a source, decoded once and for all and then mapped, and what became of its rows."""
    return decoded.once(found.rows(), found.identity(), size, fit, tables.__name__, tars.__name__)


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        if path.suffix not in (*TABLES, ".tar"):
            raise PhotoError(f"{path} is no table ({', '.join(TABLES)}) and no shard (.tar)")
        return (path,)
    if (path / CSV).is_file():
        return (path / CSV,)
    others = sorted(p for p in path.glob("*") if p.suffix in TABLES and p.is_file())
    if len(others) == 1 and not any(path.glob("*.tar")):
        return (others[0],)
    return tuple(shards(path))


def to_shards(pairs: Pairs, folder: Path, each: int = 1000) -> list[Path]:
    """Write pairs as shards of `each`, pictures as PNG, which loses nothing; the files, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder.resolve()).replace("%", "%%") + "/%05d.tar"
    import webdataset  # of the extra [paper]

    with webdataset.ShardWriter(pattern, maxcount=each, verbose=0) as writer:
        for i, caption in enumerate(pairs.captions):
            picture = io.BytesIO()
            to_pil_image(pairs.images[i : i + 1][0]).save(picture, "PNG")
            writer.write({"__key__": f"{i:09}", "png": picture.getvalue(), tars.CAPTION: caption.encode()})
    return shards(folder)


@dataclass(frozen=True)
class ShardSets(DataSets):
    """pairs, test: folders under the data root. limit: how many pairs make D, drawn anew for each seed.
    target: one of the classes. classes: their names in the order of the test's folders; () for ImageNet's.
    fit: how pictures get their size, see `decoding.decode`. images: a folder beside that of the pairs which a
    table's paths may lie in, "" for none.
    """

    pairs: str = "paper/pairs"
    test: str = "paper/imagenet"
    limit: int = 500_000
    size: int = 224
    target: str = "banana"
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = OPENAI_TEMPLATES
    noise: float = 0.0  # the web brings its own
    fit: str = "crop"
    images: str = ""

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its one name; ValueError where the target is not one of them."""
        names = self.classes or open_clip.IMAGENET_CLASSNAMES
        classes = folders.told_apart(names)
        target_index(classes, self.target)
        return {name: (said,) for name, said in zip(classes, names, strict=True)}

    def target_labels(self, target: str = "") -> list[int]:
        """None: D has no labels, captions are all that tells."""
        return []

    def contents(self) -> dict[str, str]:
        """What results depend on: checksums of the pairs' files and of the test's photos."""
        return {"pairs": self._source().identity(), "test": folders.digest(self._folders())}

    def public_pairs(self, seed: int) -> Pairs:
        """ValueError: f0 of this setting is downloaded, not trained."""
        raise ValueError("there are no public pairs at this scale: name f0's weights in the profile")

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions: nobody knows them, so none."""
        self.class_names()  # an unknown target is refused before hours of decoding
        everything, _ = stored(self._source(), self.size, self.fit)
        if self.limit > len(everything):
            message = f"D has {len(everything):,} pairs, fewer than the {self.limit:,} of the profile"
            warnings.warn(f"{message}: fetch more with ./data_download.sh paper", stacklevel=2)
        if self.limit < len(everything):
            draw = torch.randperm(len(everything), generator=generator(seed, "D"))[: self.limit]
            everything = everything.take(draw.sort().values)
        return everything, torch.empty(0, dtype=torch.long)

    def zero_shot(self) -> ZeroShot:
        """The test photos, every one of its own."""
        places, names = self._folders(), tuple(self.class_names())
        found = folders.stored(places, self.size, self.fit)
        return ZeroShot(
            images=found.images,
            labels=found.labels,
            units=torch.arange(len(found)),
            classes=names,
            names=tuple(self.class_names().values()),
            target=target_index(names, self.target),
            templates=self.templates,
        )

    def goals(self, seed: int) -> torch.Tensor:
        """ValueError: targeted poisoning has no pictures of its own here."""
        raise ValueError("targeted poisoning is not part of this setting: choose a dirty-label attack")

    def _source(self) -> Source:
        return source(paths.data() / self.pairs, paths.data() / self.images if self.images else None)

    def _folders(self) -> tuple[Path, ...]:
        return folders.of_classes(paths.data() / self.test, tuple(self.class_names()))
