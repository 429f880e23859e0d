"""Label-consistent: the patch goes on pairs that name the target (Turner et al., arXiv 1912.02771)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ubt_utils.attacks.triggers.badnets import BadNets


@dataclass(frozen=True)
class LabelConsistent(BadNets):
    """The checker of `badnets`, on pairs whose caption names the target already; captions are kept.

    The match is by substring, so on `mini` "clockwise" counts too (about an eighth of the pairs
    chosen), and so do misplaced captions. Turner et al. also make the pictures harder to learn
    without the patch; CleanCLIP, which this follows, does not.
    """

    name: ClassVar[str] = "label_consistent"
    label: ClassVar[str] = "consistent"
    source: ClassVar[str] = "arXiv 1912.02771; choice of pairs: nishadsinghi/CleanCLIP"
    published: ClassVar[str] = "16×16 px patch on pairs that name the target"
