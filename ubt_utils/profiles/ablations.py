"""mini with one choice of UBT's detection changed. What its unlearning could do otherwise is in
`defenses.ubt.VARIANTS`; how much noise it stands, in `NOISES`."""

from __future__ import annotations

from dataclasses import replace

from ubt_utils.profiles.mini import MINI

POOLS, TOPS, OVERFIT_STEPS = (0.1, 0.5), (16, 256), (5, 80)

ABLATIONS = (
    *(
        replace(
            MINI,
            name=f"mini-pool{100 * part:.0f}",
            about=f"mini with a pool ρ of {part:.0%} of D",
            overfit=replace(MINI.overfit, pool=part),
        )
        for part in POOLS
    ),
    *(
        replace(
            MINI,
            name=f"mini-top{count}",
            about=f"mini with an unlearning set D_u of at most {count} pairs",
            select=replace(MINI.select, top=count),
        )
        for count in TOPS
    ),
    *(
        replace(
            MINI,
            name=f"mini-overfit{steps}",
            about=f"mini with {steps} steps of overfit training",
            overfit=replace(MINI.overfit, recipe=replace(MINI.overfit.recipe, steps=steps)),
        )
        for steps in OVERFIT_STEPS
    ),
)
