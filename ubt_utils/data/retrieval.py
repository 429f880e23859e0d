"""The retrieval task: photos and human captions, each to be found by the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Retrieval:
    """images: (N, 3, H, W) uint8. captions: M strings. owner: (M,) the image each one tells of."""

    images: torch.Tensor
    captions: tuple[str, ...]
    owner: torch.Tensor

    def __post_init__(self) -> None:
        if len(self.captions) != len(self.owner):
            raise ValueError(f"{len(self.captions)} captions but {len(self.owner)} owners")
        if missing := set(range(len(self.images))) - set(self.owner.tolist()):
            raise ValueError(f"{len(missing)} of {len(self.images)} images have no caption to be found by")
