"""UBT's entries in the registry of defenses: itself, and what its choices are measured by."""

from __future__ import annotations

from typing import Any

from ubt_utils.ubt.defense import Defense
from ubt_utils.ubt.settings import UBT
from ubt_utils.ubt.unlearn import unlearn

SEES = ("D", "f0", "overfit", "detection")


def variant(name: str, changed: str, **options: Any) -> Defense:
    """UBT with one choice made otherwise; changed: which, in words."""
    source = f"[ours] UBT, but {changed}"
    return Defense(name, unlearn, SEES, source, options=options, variant_of=UBT, changed=changed)


DEFENSES = (
    Defense(UBT, unlearn, SEES, "[paper] arXiv 2409.19526 and 2403.16257; in detail ours, see METHOD.md"),
    variant("ubt-sample", "push whole captions", level="sample"),
    variant("ubt-cut", "against the caption without B, not with other words in its place", words=0),
    variant("ubt-both", "push the text tower, too", both=True),
    variant("ubt-noretain", "no retain term", retain=False),
    variant("ubt-onelook", "no second look outside the pool", second_look=False),
    variant("ubt-occlusion", "B by occlusion, not by frequency", tokens_by="occlusion"),
    variant("ubt-gradient", "B by gradient × embedding, not by frequency", tokens_by="gradient"),
    variant("ubt-rounds", "several votes, for several words", in_turn=True),
)
