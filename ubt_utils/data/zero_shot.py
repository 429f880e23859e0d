"""The zero-shot task that every model is measured on: classes, their names, test pictures."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ubt_utils.data.captions import TEMPLATES
from ubt_utils.data.pictures import Images, take


@dataclass(frozen=True)
class ZeroShot:
    """images: (N, 3, H, W) uint8, in memory or on disk. labels: (N,) class index. units: (N,) index of
    the drawing.

    classes: C class names. names: per class, the names that its prompts are made of (a
    class such as "clock" has several). target: the index of the attacked class. templates: what
    the prompts are made with. ways: how many classes one question offers; 0: all. Where it is fewer,
    each picture is asked among its class, the target and others at random, and what counts is the chance of
    the answer over all such draws.
    """

    images: Images
    labels: torch.Tensor
    units: torch.Tensor
    classes: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    target: int
    templates: tuple[str, ...] = TEMPLATES
    ways: int = 0

    def prompts(self) -> list[list[str]]:
        """Per class, every template filled with every name."""
        return [[t.format(name) for name in names for t in self.templates] for names in self.names]

    def thinned(self, limit: int) -> ZeroShot:
        """The same task on at most about `limit` pictures: all of the target, every n-th other one."""
        others = (self.labels != self.target).nonzero().flatten()
        real = (self.labels == self.target).nonzero().flatten()
        every = max(1, -(-len(others) // max(1, limit - len(real))))
        keep = torch.cat([real, others[::every]]).sort().values
        return replace(self, images=take(self.images, keep), labels=self.labels[keep], units=self.units[keep])


def target_index(classes: Sequence[str], target: str) -> int:
    """Where `target` stands among `classes`; ValueError, with those of a similar name, when it is not one of
    them."""
    if target not in classes:
        plain = {name.casefold(): name for name in classes}
        close = [plain[name] for name in difflib.get_close_matches(target.casefold(), plain)]
        hint = f"; close to it: {', '.join(close)}" if close else f", such as {', '.join(classes[:3])}"
        raise ValueError(f"the target class {target!r} is not among the {len(classes)} classes{hint}")
    return list(classes).index(target)
