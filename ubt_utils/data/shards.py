"""Pairs from webdataset shards (as img2dataset writes them) or CSV, and ImageNet's photos as the test.

Nothing is downloaded here: pairs lie as *.tar shards, or as pairs.csv, in one folder, the test as one folder
of photos per class in another, both under the data root.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import open_clip
import torch
from torchvision.transforms.functional import to_pil_image

from ubt_utils.core import distributed, paths
from ubt_utils.core.checksum import remembered
from ubt_utils.core.seeding import generator
from ubt_utils.core.store import run_stage
from ubt_utils.data import decoded
from ubt_utils.data.captions import OPENAI_TEMPLATES
from ubt_utils.data.decoding import PhotoError, Row
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.sets import DataSets
from ubt_utils.data.zero_shot import ZeroShot, target_index

IMAGES = ("jpg", "jpeg", "png", "webp")  # the extensions that a shard's pictures may have
CAPTION = "txt"
TAR_BLOCK = 512
CSV = "pairs.csv"
PHOTOS = (".jpeg", ".jpg", ".png", ".webp")


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
        if not _ends(path):
            raise PhotoError(
                f"{path} is truncated: a shard ends with two empty blocks. Delete it and fetch it again"
            )
    return found


def _ends(path: Path) -> bool:
    size = path.stat().st_size
    if size < 2 * TAR_BLOCK or size % TAR_BLOCK:
        return False
    with path.open("rb") as file:
        file.seek(-2 * TAR_BLOCK, 2)
        return not any(file.read())


def from_shards(paths: Sequence[Path]) -> Iterator[Row]:
    """The rows of shards, in order. Nothing but pictures and captions is read, nothing is unpickled."""
    import webdataset  # of the extra [paper]

    for path in paths:
        samples = webdataset.WebDataset(
            [str(path.resolve())], shardshuffle=False, nodesplitter=None, empty_check=False
        )  # of several ranks the first reads all: see shard_sets
        for sample in samples:
            image = next((sample[kind] for kind in IMAGES if kind in sample), None)
            yield Row(image, sample.get(CAPTION), f"{path.name}, {sample['__key__']}")


def from_csv(path: Path, image: str = "image", caption: str = "caption") -> Iterator[Row]:
    """The rows of a CSV file with a column of picture paths and one of captions, as CLIP's peers keep them.

    Paths are relative to the file's folder, and must stay inside it. Raises PhotoError for other columns,
    and for a file that is no CSV.
    """
    for number, row in enumerate(_table(path, {image, caption}), start=2):
        place, words = _inside(path.parent, row[image] or ""), (row[caption] or "").encode()
        yield Row(place.read_bytes() if place else None, words, f"{path.name}, line {number}")


def listed(path: Path, image: str = "image") -> str:
    """A checksum of a CSV file and of the pictures that it names."""
    named = [_inside(path.parent, row[image] or "") for row in _table(path, {image})]
    return remembered(path, *(place for place in named if place))


def _table(path: Path, columns: set[str]) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            table = csv.DictReader(file)
            if missing := columns - set(table.fieldnames or ()):
                raise PhotoError(f"{path} has the columns {table.fieldnames}, but not {sorted(missing)}")
            yield from table
        except (csv.Error, UnicodeDecodeError) as error:
            raise PhotoError(f"{path}, line {table.line_num + 1}: not CSV in UTF-8 ({error})") from error


def _inside(folder: Path, name: str) -> Path | None:
    """The file of that name, unless it lies outside the folder or is not there."""
    try:
        place = (folder / name).resolve()
        return place if place.is_relative_to(folder.resolve()) and place.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def to_shards(pairs: Pairs, folder: Path, each: int = 1000) -> list[Path]:
    """Write pairs as shards of `each`, pictures as PNG, which loses nothing; the files, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder.resolve() / "%05d.tar")
    import webdataset  # of the extra [paper]

    with webdataset.ShardWriter(pattern, maxcount=each, verbose=0) as writer:
        for i, caption in enumerate(pairs.captions):
            picture = io.BytesIO()
            to_pil_image(pairs.images[i : i + 1][0]).save(picture, "PNG")
            writer.write({"__key__": f"{i:09}", "png": picture.getvalue(), CAPTION: caption.encode()})
    return shards(folder)


@dataclass(frozen=True)
class ShardSets(DataSets):
    """pairs, test: folders under the data root. limit: how many pairs make D, drawn anew for each seed.
    target: one of the classes. classes: their names in the order of the test's folders; () for ImageNet's.
    fit: how pictures get their size, see `decoding.decode`.
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

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its one name; ValueError where the target is not one of them. Two of ImageNet's names
        stand for two classes each, which no prompt can tell apart: the second is "missile (2)"."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.classes or open_clip.IMAGENET_CLASSNAMES:
            found[f"{name} (2)" if name in found else name] = (name,)
        target_index(tuple(found), self.target)
        return found

    def target_labels(self, target: str = "") -> list[int]:
        """None: D has no labels, captions are all that tells."""
        return []

    def contents(self) -> dict[str, str]:
        """What results depend on: checksums of the pairs' files and of the test's photos."""
        return {"pairs": _identity(self._pair_files()), "test": _photos_digest(self._folders())}

    def public_pairs(self, seed: int) -> Pairs:
        """ValueError: f0 of this setting is downloaded, not trained."""
        raise ValueError("there are no public pairs at this scale: name f0's weights in the profile")

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions: nobody knows them, so none."""
        files = self._pair_files()
        csv = files[0].suffix == ".csv"
        everything = _stored(
            from_csv(files[0]) if csv else from_shards(files), self.size, self.fit, _identity(files)
        )
        if self.limit > len(everything):
            message = f"D has {len(everything):,} pairs, fewer than the {self.limit:,} of the profile"
            warnings.warn(f"{message}: fetch more with ./data_download.sh paper", stacklevel=2)
        if self.limit < len(everything):
            draw = torch.randperm(len(everything), generator=generator(seed, "D"))[: self.limit]
            everything = everything.take(draw.sort().values)
        return everything, torch.empty(0, dtype=torch.long)

    def zero_shot(self) -> ZeroShot:
        """The test photos, every one of its own."""
        folders, names = self._folders(), tuple(self.class_names())
        stored = _stored(_photos_of(folders), self.size, self.fit, _photos_digest(folders))
        number = {folder.name: i for i, folder in enumerate(folders)}
        return ZeroShot(
            images=stored.images,
            labels=torch.tensor([number[source.split("/")[0]] for source in stored.sources]),
            units=torch.arange(len(stored)),
            classes=names,
            names=tuple(self.class_names().values()),
            target=target_index(names, self.target),
            templates=self.templates,
        )

    def goals(self, seed: int) -> torch.Tensor:
        """ValueError: targeted poisoning has no pictures of its own here."""
        raise ValueError("targeted poisoning is not part of this setting: choose a dirty-label attack")

    def _pair_files(self) -> tuple[Path, ...]:
        folder = paths.data() / self.pairs
        return (folder / CSV,) if (folder / CSV).is_file() else tuple(shards(folder))

    def _folders(self) -> tuple[Path, ...]:
        """The test's folders in their order, one per class; PhotoError when they are not as many."""
        place, expected = paths.data() / self.test, len(self.class_names())
        found = tuple(sorted(p for p in place.iterdir() if p.is_dir())) if place.is_dir() else ()
        if len(found) != expected:
            raise PhotoError(
                f"{place} has {len(found)} folders of photos, one for each of {expected} classes is needed"
            )
        return found


def _identity(files: tuple[Path, ...]) -> str:
    return listed(files[0]) if files[0].suffix == ".csv" else fingerprint(files)


def _photos_digest(folders: tuple[Path, ...]) -> str:
    """A checksum of the test's photos and of the folders that they lie in."""
    return remembered(*_photos_in(folders))


def _photos_in(folders: tuple[Path, ...]) -> list[Path]:
    return [p for f in folders for p in sorted(f.iterdir()) if p.suffix.lower() in PHOTOS]


def _photos_of(folders: tuple[Path, ...]) -> Iterator[Row]:
    for path in _photos_in(folders):
        folder = path.parent.name
        yield Row(path.read_bytes(), folder.encode(), f"{folder}/{path.name}")


@lru_cache(maxsize=4)
def _read(folder: Path, size: int, identity: str) -> Pairs:
    return decoded.read(folder, size, identity)


def _stored(source: Iterator[Row], size: int, fit: str, identity: str) -> Pairs:
    """The rows decoded, once and for all, by the first rank: a stage of its own under runs/stores."""
    config = {"pictures": identity, "size": size, "fit": fit}

    def work(folder: Path) -> dict[str, int]:
        return {"pairs": decoded.write(source, folder, size, fit=fit)} if distributed.first() else {}

    made = run_stage(("stores",), "decode", config, work, modules=("ubt_utils.data.decoded",))
    return _read(made.folder, size, f"{identity} {size} {fit}")
