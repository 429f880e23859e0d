"""UBT's entries in the registry of defenses: itself, and what its choices are measured by."""

from __future__ import annotations

from typing import Any

from ubt_utils.ubt.defense import Defense
from ubt_utils.ubt.settings import UBT
from ubt_utils.ubt.unlearn import unlearn

SEES = ("D", "overfit", "detection")


def variant(name: str, changed: str, **options: Any) -> Defense:
    """UBT with one choice made otherwise; changed: which, in words. It pays for what it uses."""
    anew = options.get("start") == "public"
    unfit = options.get("weight") == 0 or "rank" in options
    sees = (*(s for s in SEES if not (unfit and s == "overfit")), *(("f0",) if anew else ()))
    return Defense(
        name, unlearn, sees, f"[ours] UBT, but {changed}", options=options, anew=anew, variant_of=UBT,
        changed=changed,
    )  # fmt: skip


LADDER = (  # the method, a part at a time: each adds one to the one before, and UBT comes last
    variant("ubt-pool", "nothing is pushed: trained on without the pool", weight=0.0, second_look=False),
    variant(
        "ubt-carriers", "any carriers are pushed, whole", rank="random", level="sample", second_look=False
    ),
    variant(
        "ubt-drops",
        "ranked without overfitting, pushed whole",
        rank="drop",
        level="sample",
        second_look=False,
    ),
    variant("ubt-overfits", "ranked by overfitting, pushed whole", level="sample", second_look=False),
    variant("ubt-onelook", "without the wider exclusion", second_look=False),
)
DEFENSES = (
    Defense(
        UBT,
        unlearn,
        SEES,
        "[paper] arXiv 2409.19526 and 2403.16257; in detail ours, see METHOD.md",
    ),
    variant("ubt-sample", "push whole captions", level="sample"),
    variant("ubt-cut", "against the caption without B, not with other words in its place", words=0),
    variant("ubt-both", "push the text tower, too", both=True),
    variant("ubt-noretain", "no retain term", retain=False),
    variant("ubt-unfit", "ranked without overfitting", rank="drop"),
    variant("ubt-occlusion", "B by occlusion, not by frequency", tokens_by="occlusion"),
    variant("ubt-gradient", "B by gradient × embedding, not by frequency", tokens_by="gradient"),
    variant("ubt-retain", "nothing is pushed", weight=0.0),
    variant("ubt-anew", "from the public model", start="public"),
    *LADDER,
)
