"""What holding the found word's honest pictures does for the target, on victims of the trials.

    python benchmarks/hold.py --workers 2           # prints the table and records it

A row is one victim of profile `photos`, unlearned at the setting that the trials chose but for h, at the same
cost: rates on validation photos, what the victim had of them (undefended, known), how many pictures may be
held, and how many of these are poisoned.
"""

from __future__ import annotations

from typing import Any

import tyro

from ubt_utils import profiles, stages
from ubt_utils.core import records
from ubt_utils.profiles.chosen import ON_PHOTOS
from ubt_utils.study import parallel, tuning
from ubt_utils.ubt.hold import honest
from ubt_utils.ubt.settings import UBT

HOLDS = (0.0, 0.5, 2.0)


def trials() -> list[tuning.Trial]:
    """Every victim with every weight."""
    settings = [{**ON_PHOTOS[UBT], "hold": h} for h in HOLDS]
    return tuning.trials({UBT: settings}, tuning.VICTIMS)


def run(trial: tuning.Trial) -> dict[str, Any]:
    """One row."""
    profile = profiles.get("photos")
    chain = stages.chain(profile, trial.attack, trial.seed)
    kept, (_, truth) = honest(chain.view()), chain.poisoned
    assert truth is not None  # its poison is known
    row = {"held": len(kept), "held_poisoned": int(truth[kept].sum()), "hold": trial.setting["hold"]}
    return row | tuning.run(profile, trial)


def main(workers: int = 1) -> None:
    records.write_benchmark("hold", {"rows": parallel.each(run, trials(), workers, "hold", "trial")})


if __name__ == "__main__":
    tyro.cli(main)
