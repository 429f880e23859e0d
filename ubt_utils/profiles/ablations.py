"""mini with one choice of UBT's detection changed. What its unlearning could do otherwise is in
`ubt.variants`; how much noise it stands, in `NOISES`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ubt_utils.profiles.base import Profile
from ubt_utils.profiles.mini import MINI

POOLS, TOPS, OVERFIT_STEPS = (0.1, 0.5), (16, 256), (5, 80)


def _ablation(name: str, changed: str, **fields: Any) -> Profile:
    return replace(MINI, name=name, about=f"mini with {changed}", changed=changed, **fields)


ABLATIONS = (
    *(
        _ablation(
            f"mini-pool{100 * part:.0f}",
            f"a pool ρ of {part:.0%} of D",
            suspect=replace(MINI.suspect, pool=part),
        )
        for part in POOLS
    ),
    *(
        _ablation(
            f"mini-top{count}",
            f"an unlearning set D_u of at most {count} pairs",
            select=replace(MINI.select, top=count),
        )
        for count in TOPS
    ),
    *(
        _ablation(
            f"mini-overfit{steps}",
            f"{steps} steps of overfit training",
            overfit=replace(MINI.overfit, recipe=replace(MINI.overfit.recipe, steps=steps)),
        )
        for steps in OVERFIT_STEPS
    ),
)
