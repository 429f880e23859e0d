"""Pictures that stay on disk until they are asked for, with the few that an attack has changed in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch


@dataclass(frozen=True)
class Pictures:
    """N of the stored pictures, in any order; read when indexed, a batch at a time.

    stored: (M, 3, H, W) uint8, as a rule mapped from a file. rows: (N,) which of them, in order. changed:
    (C,) sorted rows of `stored` that read as `instead` (C, 3, H, W). identity: what tells this store from
    others, so that nobody has to read it to compare. Where code asks for `images[index]`,
    `len`, `shape`, `dtype` and `split`, these serve as a tensor would.
    """

    stored: torch.Tensor
    rows: torch.Tensor
    changed: torch.Tensor
    instead: torch.Tensor
    identity: str

    @classmethod
    def of(cls, stored: torch.Tensor, identity: str) -> Pictures:
        """All pictures of a store, as they are."""
        none = torch.empty(0, dtype=torch.long)
        return cls(stored, torch.arange(len(stored)), none, stored[:0].clone(), identity)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, H, W)."""
        return torch.Size([len(self), *self.stored.shape[1:]])

    @property
    def ndim(self) -> int:
        """4."""
        return self.stored.ndim

    @property
    def dtype(self) -> torch.dtype:
        """uint8."""
        return self.stored.dtype

    def __getitem__(self, index: torch.Tensor | slice | list[int]) -> torch.Tensor:
        """(B, 3, H, W) the pictures there, read into memory; TypeError for a single number."""
        if isinstance(index, int):  # torch would give a view of the mapped file, and writing to it kills
            raise TypeError(f"ask for pictures by a slice, a list or a tensor: [{index}], not {index}")
        rows = self.rows[index]
        read = self.stored.index_select(0, rows)
        if len(self.changed):
            place = torch.searchsorted(self.changed, rows).clamp(max=len(self.changed) - 1)
            hit = self.changed[place] == rows
            read[hit] = self.instead[place[hit]]
        return read

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """All pictures in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def take(self, index: torch.Tensor | slice) -> Pictures:
        """Those at `index` (B,), in a slice, or where a mask (N,) is true, still on disk."""
        return replace(self, rows=self.rows[index])

    def replaced(self, index: torch.Tensor, images: torch.Tensor) -> Pictures:
        """The same with `images` (B, 3, H, W) at `index` (B,), which are kept in memory."""
        rows = torch.cat([self.rows[index], self.changed])
        rows, order = rows.unique(return_inverse=True)
        both, first = torch.cat([images, self.instead]), torch.full((len(rows),), len(order))
        first.scatter_reduce_(0, order, torch.arange(len(order)), "amin")  # the new ones come before the old
        return replace(self, changed=rows, instead=both[first])

    def fingerprint(self) -> Iterator[bytes | memoryview]:
        """What a checksum is taken over: the store's identity, the rows, and what was changed."""
        yield self.identity.encode()
        for part in (self.rows, self.changed, self.instead.contiguous()):
            yield part.numpy().data


Images: TypeAlias = torch.Tensor | Pictures


def take(images: Images, index: torch.Tensor | slice) -> Images:
    """The images at `index` (B,), in a slice, or where a mask (N,) is true; on disk, if they were."""
    return images.take(index) if isinstance(images, Pictures) else images[index]


def read(images: Images, index: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) the images at `index` (B,), in memory. As a tensor's own `images[index]`, which copies
    number by number, and takes several times as long."""
    return images[index] if isinstance(images, Pictures) else images.index_select(0, index)


def replaced(images: Images, index: torch.Tensor, others: torch.Tensor) -> Images:
    """The same images with `others` (B, 3, H, W) at `index` (B,); the given ones stay as they are."""
    if isinstance(images, Pictures):
        return images.replaced(index, others)
    images = images.clone()
    images[index] = others
    return images
