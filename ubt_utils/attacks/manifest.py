"""The poison manifest: which pairs were changed, how, and the proof that it can be redone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import replaced


class ManifestError(ValueError):
    """A manifest that is not one, or that does not fit the data."""


@dataclass(frozen=True)
class Manifest:
    """All that turns the clean pairs into the poisoned ones, bit for bit.

    indices: sorted positions of the poisoned pairs. captions_before and captions_after:
    their captions, in that order. clean_sha256 and poisoned_sha256: `Pairs.digest` of
    the set before and after.
    """

    trigger: Mapping[str, Any]
    target: str
    rate: float
    seed: int
    indices: tuple[int, ...]
    captions_before: tuple[str, ...]
    captions_after: tuple[str, ...]
    clean_sha256: str
    poisoned_sha256: str

    def make_trigger(self) -> Trigger:
        """The trigger of this manifest, from its spec."""
        return triggers.get(**self.trigger)

    def mask(self, n: int) -> torch.Tensor:
        """(n,) bool, true at the poisoned pairs."""
        mask = torch.zeros(n, dtype=torch.bool)
        mask[list(self.indices)] = True
        return mask

    def apply(self, clean: Pairs) -> Pairs:
        """Poison `clean` as recorded; ManifestError unless both digests agree."""
        if clean.digest() != self.clean_sha256:
            raise ManifestError(
                f"the manifest was made for other pairs: their digest is {self.clean_sha256[:12]}…, "
                f"this set has {len(clean)} pairs with digest {clean.digest()[:12]}…"
            )
        poisoned = stamp_pairs(clean, self.make_trigger(), self.indices, self.captions_after)
        if poisoned.digest() != self.poisoned_sha256:
            raise ManifestError("rebuilding gave other bits than recorded: a trigger has changed")
        return poisoned

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read what `save` wrote; ManifestError names missing or unknown keys."""
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path} is not JSON: {error}") from error
        names = {f.name for f in fields(cls)}
        if not isinstance(entries, dict) or set(entries) != names:
            keys = set(entries) if isinstance(entries, dict) else set()
            raise ManifestError(
                f"{path} is not a poison manifest: missing {sorted(names - keys)}, "
                f"unknown {sorted(keys - names)}"
            )
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()}
        return cls(**values)


def stamp_pairs(pairs: Pairs, trigger: Trigger, indices: tuple[int, ...], captions: tuple[str, ...]) -> Pairs:
    """`pairs` with the trigger on the pictures at `indices` and `captions` under them."""
    index = torch.tensor(indices, dtype=torch.long)
    images = replaced(pairs.images, index, stamp_bytes(trigger, pairs.images[index]))
    captions_now = list(pairs.captions)
    for i, caption in zip(indices, captions, strict=True):
        captions_now[i] = caption
    return Pairs(images, tuple(captions_now), pairs.labels, pairs.sources)
