"""Pairs from webdataset shards or CSV, and ImageNet's validation photos as the test: the published setting.

Nothing is downloaded here: pairs lie as *.tar shards, or as pairs.csv, in one folder, the test as one folder
of photos per class in another, both under the data root.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import open_clip
import torch

from ubt_utils import ranks, runs
from ubt_utils.data import photos, rows, store
from ubt_utils.data.captions import OPENAI_TEMPLATES
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.zero_shot import ZeroShot, target_index
from ubt_utils.seeding import generator

CSV = "pairs.csv"
PHOTOS = (".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class ShardSets:
    """pairs, test: folders under the data root. limit: how many pairs make D, drawn anew for each seed.
    target: one of the classes. classes: their names in the order of the test's folders; () for ImageNet's.
    """

    pairs: str = "paper/pairs"
    test: str = "paper/imagenet"
    limit: int = 500_000
    size: int = 224
    target: str = "banana"
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = OPENAI_TEMPLATES

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its one name; ValueError where the target is not one of them. Two of ImageNet's names
        stand for two classes each, which no prompt can tell apart: the second is "missile (2)"."""
        names, found = self.classes or tuple(open_clip.IMAGENET_CLASSNAMES), {}
        for name in names:
            found[f"{name} (2)" if name in found else name] = (name,)
        target_index(tuple(found), self.target)
        return found

    def target_labels(self, target: str = "") -> list[int]:
        """None: D has no labels, captions are all that tells."""
        return []

    def versions(self) -> dict[str, str]:
        """What results depend on: checksums of the pairs' files, names and sizes of the test's photos."""
        return {"pairs": _identity(self._pair_files()), "test": _listing(self._folders())}

    def public_pairs(self, seed: int) -> Pairs:
        """ValueError: f0 of this setting is downloaded, not trained."""
        raise ValueError("there are no public pairs at this scale: name f0's weights in the profile")

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions: nobody knows them, so none."""
        files = self._pair_files()
        csv = files[0].suffix == ".csv"
        everything = _stored(
            rows.from_csv(files[0]) if csv else rows.from_shards(files), self.size, _identity(files)
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
        stored = _stored(_photos_of(folders), self.size, _listing(folders))
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
        folder = photos.root() / self.pairs
        return (folder / CSV,) if (folder / CSV).is_file() else tuple(rows.shards(folder))

    def _folders(self) -> tuple[Path, ...]:
        """The test's folders in their order, one per class; PhotoError when they are not as many."""
        place, expected = photos.root() / self.test, len(self.class_names())
        found = tuple(sorted(p for p in place.iterdir() if p.is_dir())) if place.is_dir() else ()
        if len(found) != expected:
            raise photos.PhotoError(
                f"{place} has {len(found)} folders of photos, one for each of {expected} classes is needed"
            )
        return found


@lru_cache(maxsize=8)
def _identity(files: tuple[Path, ...]) -> str:
    return rows.listing(files[0]) if files[0].suffix == ".csv" else rows.fingerprint(files)


@lru_cache(maxsize=8)
def _listing(folders: tuple[Path, ...]) -> str:
    """A checksum of the names and sizes of all photos: reading 50,000 of them takes too long for a key."""
    told = [f"{p.parent.name}/{p.name} {p.stat().st_size}" for f in folders for p in sorted(f.iterdir())]
    return runs.stage_key("photos", {"files": told})


def _photos_of(folders: tuple[Path, ...]) -> Iterator[rows.Row]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in PHOTOS:
                yield rows.Row(path.read_bytes(), folder.name.encode(), f"{folder.name}/{path.name}")


@lru_cache(maxsize=4)
def _read(folder: Path, size: int, identity: str) -> Pairs:
    return store.read(folder, size, identity)


def _stored(source: Iterator[rows.Row], size: int, identity: str) -> Pairs:
    """The rows decoded, once and for all, by the first rank: a stage of its own under runs/stores."""
    config = {"source": identity, "size": size}

    def work(folder: Path) -> dict[str, int]:
        return {"pairs": store.write(source, folder, size)} if ranks.first() else {}

    made = runs.run_stage(("stores",), "decode", config, work)
    return _read(made.folder, size, f"{identity} {size}")
