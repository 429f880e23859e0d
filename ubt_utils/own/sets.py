"""The pairs of somebody's own, and photos to ask a model about: no target, no truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ubt_utils.data import folders, shards
from ubt_utils.data.captions import OPENAI_TEMPLATES
from ubt_utils.data.decoded import Told
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.sets import DataSets
from ubt_utils.data.zero_shot import ZeroShot

FIT = "crop"


@dataclass(frozen=True)
class OwnSets(DataSets):
    """D as a reader has it, all of it, whatever the seed. pairs, images: see `shards.source`; size: the side
    that pictures get, as CLIP gives it: scaled, and the middle taken."""

    pairs: str
    images: str = ""
    size: int = 224
    target: str = ""
    templates: tuple[str, ...] = OPENAI_TEMPLATES
    noise: float = 0.0

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """None: D is all there is."""
        return {}

    def contents(self) -> dict[str, str]:
        """A checksum of the pairs, as they were when this one was first asked for it."""
        return {"pairs": self._identity}

    @cached_property
    def _identity(self) -> str:
        return self._source().identity()  # looks at every picture's file: seconds for each 100,000

    def target_labels(self, target: str = "") -> list[int]:
        """None."""
        return []

    def public_pairs(self, seed: int) -> Pairs:
        """ValueError: a public model comes as it is."""
        raise ValueError("there are no public pairs beside one's own: name the public model")

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """All pairs, in the order of their source; nobody knows which are misplaced."""
        return self._stored[0], torch.empty(0, dtype=torch.long)

    def told(self) -> Told:
        """What became of the rows of the source, of which some may have been left out."""
        return self._stored[1]

    def paths(self, names: Collection[str]) -> dict[str, str]:
        """Where the pictures of rows come from, see `shards.Source.paths`."""
        return self._source().paths(names)

    @cached_property
    def _stored(self) -> tuple[Pairs, Told]:
        return shards.stored(self._source(), self.size, FIT)

    def zero_shot(self) -> ZeroShot:
        """ValueError: there is no test with a target."""
        raise ValueError("one's own pairs bring no test: ask about photos of your own with --test")

    def goals(self, seed: int) -> torch.Tensor:
        """ValueError: nothing is attacked here."""
        raise ValueError("one's own pairs are not attacked: take a profile of this kit for that")

    def _source(self) -> shards.Source:
        return shards.source(Path(self.pairs), Path(self.images) if self.images else None)


@dataclass(frozen=True)
class Photos:
    """Photos that a reader names, in a folder for each class, which bears its name, or the id of a class of
    ImageNet's."""

    folder: str
    size: int

    def classes(self) -> tuple[str, ...]:
        """The classes, in order. ValueError where there are no two, or no names."""
        return folders.names_of(Path(self.folder))

    def contents(self) -> dict[str, str]:
        """A checksum of the photos."""
        return {"test": folders.digest(self._places())}

    def pairs(self) -> Pairs:
        """The photos, with the index of their class as label."""
        return folders.stored(self._places(), self.size, FIT)

    def _places(self) -> tuple[Path, ...]:
        return folders.of_classes(Path(self.folder), self.classes())
