"""The zero-shot task that every model is measured on: classes, their names, test pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ubt_utils.data.captions import TEMPLATES


@dataclass(frozen=True)
class ZeroShot:
    """images: (N, 3, H, W) uint8. labels: (N,) class index. units: (N,) index of the drawing.

    classes: C class names. names: per class, the names that its prompts are made of (a
    class such as "clock" has several). target: the index of the attacked class.
    """

    images: torch.Tensor
    labels: torch.Tensor
    units: torch.Tensor
    classes: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    target: int

    def prompts(self, templates: Sequence[str] = TEMPLATES) -> list[list[str]]:
        """Per class, every template filled with every name."""
        return [[t.format(name) for name in names for t in templates] for names in self.names]


def target_index(classes: Sequence[str], target: str) -> int:
    """Where `target` stands among `classes`; ValueError when it is not one of them."""
    if target not in classes:
        raise ValueError(f"the target class {target!r} is not among the {len(classes)} classes")
    return list(classes).index(target)
