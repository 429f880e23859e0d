"""What the locked stages of an image tower make of a picture: computed once, then remembered.

No training moves them, so that f0, fb, the overfit models and the defended one make the same of a picture
there, and every pass over D or the test would compute it anew. A picture gets the same bits whether it is
remembered or computed, and beside whatever others: these stages treat each picture of a batch apart, and
always see equally many, since a convolution adds up in another order where they are few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ubt_utils.clip import shelf

ROOM = 3 * 2**29  # bytes of features that a process keeps at most: of 29,000 photos of profile `photos`
SEEN = 2**20  # pictures of which a process notes at a time that it has seen them
DIGEST = 16  # bytes of a picture's name
AT_ONCE = 32  # pictures that pass through the stages together
PART = 1024  # remembered pictures that are written to the disk together


@dataclass
class Memory:
    """Features by the name of their picture, in the order (H, W, C), as convolutions have them in memory.

    A picture is kept when it comes for the second time, since most disturbed or stamped ones never do, and
    until `room` bytes are taken. What is kept goes to the `shelf`, too, from where other processes have it.
    """

    room: int = ROOM
    kept: dict[bytes, torch.Tensor] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    held: int = 0
    unwritten: list[bytes] = field(default_factory=list)

    def keep(self, name: bytes, features: torch.Tensor) -> None:
        """Keep features (H, W, C) of a picture that was seen before, if there is room."""
        size = features.numel() * features.element_size()
        if name not in self.seen:
            if len(self.seen) >= SEEN:
                self.seen.clear()
            self.seen.add(name)
        elif self.held + size <= self.room:
            self.kept[name] = features.clone()
            self.held += size
            self.unwritten.append(name)
            if len(self.unwritten) >= PART:
                shelf.SHELF.put(self.unwritten, torch.stack([self.kept[one] for one in self.unwritten]))
                self.unwritten.clear()

    def find(self, names: Sequence[bytes]) -> list[torch.Tensor | None]:
        """Features (H, W, C) by name, from memory or from the disk; None where there are none."""
        found = [self.kept.get(name) for name in names]
        if any(one is None for one in found):
            shelf.SHELF.look()
        return [shelf.SHELF.get(name) if one is None else one for name, one in zip(names, found, strict=True)]


MEMORY = Memory()


def through(stages: Sequence[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) normalized → (B, C, h, w), what the stages make of them, one after the other; from memory
    where they are fixed and have seen a picture twice."""
    if not _fixed(stages, images):
        return _computed(stages, images)
    names = _names(_state(stages), images)
    found = MEMORY.find(names)
    lost = [i for i, one in enumerate(found) if one is None]
    if lost:
        fresh = _last(_by_equal_parts(stages, images if len(lost) == len(names) else images[lost]))
        for i, features in zip(lost, fresh, strict=True):
            MEMORY.keep(names[i], features)
            found[i] = features
    return torch.stack([one for one in found if one is not None]).permute(0, 3, 1, 2)


def _by_equal_parts(stages: Sequence[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """As `_computed`, `AT_ONCE` pictures at a time; the first ones come again to fill up the last part."""
    count = len(images)
    again = torch.arange(-(-count // AT_ONCE) * AT_ONCE) % count
    parts = images[again].split(AT_ONCE) if count % AT_ONCE else images.split(AT_ONCE)
    return torch.cat([_computed(stages, part) for part in parts])[:count]


def _computed(stages: Sequence[nn.Module], images: torch.Tensor) -> torch.Tensor:
    for stage in stages:
        images = stage(images)
    return images


def _fixed(stages: Sequence[nn.Module], images: torch.Tensor) -> bool:
    """Whether the stages do the same to a picture every time, and nobody wants to see them do it: no
    gradient, no statistics of the batch, no hook. A GPU computes them faster than anybody could look."""
    parts = [part for stage in stages for part in stage.modules()]
    norms = [part for part in parts if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    moves = images.requires_grad or any(w.requires_grad for part in parts for w in part.parameters(False))
    watched = any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    plain = images.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and not moves and not watched and not any(norm.training for norm in norms)


def _state(stages: Sequence[nn.Module]) -> bytes:
    """A checksum of the stages' weights and statistics: some kilobytes, so that it is taken each time."""
    h = hashlib.blake2b(digest_size=32)
    for stage in stages:
        for value in stage.state_dict().values():
            h.update(value.contiguous().numpy().data)
    return h.digest()


def _names(state: bytes, images: torch.Tensor) -> list[bytes]:
    """A name for each picture (B, 3, H, W) under stages of that state."""
    rows = _last(images).numpy()
    return [hashlib.blake2b(row.data, digest_size=DIGEST, key=state).digest() for row in rows]


def _last(images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) → (B, H, W, C), which copies nothing that lies by pixel."""
    return images.permute(0, 2, 3, 1).contiguous()
