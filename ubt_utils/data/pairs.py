"""Image–caption pairs, the one data structure that every stage passes on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch

from ubt_utils.data.pictures import Images, Pictures, take


@dataclass(frozen=True)
class Pairs:
    """N images with one caption each.

    images: (N, 3, H, W) uint8, in memory or still on disk. captions: N strings. labels: (N,) int64, the
    index of the concept that the picture really shows (the truth, whatever the caption says), or None.
    sources: N strings saying where each picture comes from, or empty.
    """

    images: Images
    captions: tuple[str, ...]
    labels: torch.Tensor | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, n = self.images, len(self.captions)
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise ValueError(f"images must be (N, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
        if len(images) != n:
            raise ValueError(f"{len(images)} images but {n} captions: one caption per image")
        if self.labels is not None and len(self.labels) != n:
            raise ValueError(f"{len(self.labels)} labels for {n} pairs")
        if self.sources and len(self.sources) != n:
            raise ValueError(f"{len(self.sources)} sources for {n} pairs")

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, indices: torch.Tensor | Sequence[int]) -> Pairs:
        """The pairs at `indices`, in that order, or where a mask (N,) bool is true."""
        index = torch.as_tensor(indices)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        order = index.tolist()
        return Pairs(
            take(self.images, index),
            tuple(self.captions[i] for i in order),
            None if self.labels is None else self.labels[index],
            tuple(self.sources[i] for i in order) if self.sources else (),
        )

    def with_captions(self, captions: Sequence[str]) -> Pairs:
        """The same pictures under other captions."""
        return replace(self, captions=tuple(captions))

    def shows(self, labels: Collection[int], purpose: str) -> torch.Tensor:
        """(N,) bool: the pairs whose label is one of `labels`; ValueError when there are none to go by."""
        if self.labels is None:
            raise ValueError(f"{purpose} needs labels, to tell target pictures from others")
        return torch.isin(self.labels, torch.tensor(sorted(labels)))

    def named(self, word: str) -> torch.Tensor:
        """(N,) bool: the pairs whose caption has that word in it, in any case."""
        return torch.tensor([word.lower() in caption.lower() for caption in self.captions])

    def digest(self) -> str:
        """SHA-256 over pixels and captions: equal digests mean equal pairs, bit for bit. Of pictures on disk,
        over which of which store they are, and what was changed."""
        h = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        images = self.images
        for part in images.fingerprint() if isinstance(images, Pictures) else (images.contiguous().numpy(),):
            h.update(part)
        h.update("\0".join(self.captions).encode())
        return h.hexdigest()
