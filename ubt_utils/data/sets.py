"""What the data set of a profile must be able to do: emoji, photos, shards and a reader's own alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch

from ubt_utils.data.pairs import Pairs
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.data.zero_shot import ZeroShot


class DataSets(Protocol):
    """Which pairs go to f0, to D and to the test; a frozen dataclass, so that stages are keyed by it.

    size: the side of the pictures. noise: the fraction of D's captions that were misplaced on purpose.
    target: the class that the attacker aims at. templates: what captions and prompts are filled into.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    size: int
    target: str

    def __hash__(self) -> int:
        return super().__hash__()  # a frozen dataclass brings its own

    @property
    def noise(self) -> float: ...

    @property
    def templates(self) -> tuple[str, ...]: ...

    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """Class of the zero-shot task → its names; ValueError where the target is none of them."""
        ...

    def contents(self) -> Mapping[str, str]:
        """Checksums of all that the pairs and the test are made from."""
        ...

    def target_labels(self, target: str = "") -> list[int]:
        """The labels, as `Pairs.labels` has them, of the target class or of another one; none where D has no
        labels."""
        ...

    def public_pairs(self, seed: int) -> Pairs:
        """What f0 is trained on; ValueError where f0 comes from elsewhere."""
        ...

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions as far as they are known."""
        ...

    def goals(self, seed: int) -> torch.Tensor:
        """(M, 3, H, W) uint8 that targeted poisoning may aim at; ValueError where there are none."""
        ...

    def zero_shot(self) -> ZeroShot:
        """The test."""
        ...

    def validation(self) -> ZeroShot:
        """What settings are chosen on: pictures that neither D nor the test has; ValueError where there are
        none."""
        raise ValueError(f"{type(self).__name__} keeps no pictures aside to choose settings on")

    def known_classes(self, seed: int) -> torch.Tensor | None:
        """(C,) bool: the classes of the test that the public model of that seed has seen, where that is told
        apart."""
        return None

    def showable(self, pairs: Pairs) -> torch.Tensor:
        """Indices of the pairs whose pictures an output may show."""
        return torch.arange(len(pairs))

    def retrieval(self) -> Retrieval | None:
        """Test pictures with human captions, where there are any."""
        return None

    def probe_pairs(self) -> Pairs | None:
        """Labeled pictures that a linear probe may learn from, where there are any."""
        return None

    def class_index(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels (N,) of `probe_pairs` → the class index of `zero_shot` (N,)."""
        return labels


def identity(sets: DataSets) -> frozenset[tuple[str, str]]:
    """What is kept in memory of a data set is kept for: the checksums of its files, as a key."""
    return frozenset(sets.contents().items())
