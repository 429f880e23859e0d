"""The commands that make records: many runs at a time, to results/."""

from __future__ import annotations

import json

from ubt_utils import profiles, stages
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines.defenses import COMPARED, DEFENSES
from ubt_utils.core import records, store
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.study import detection, tuning
from ubt_utils.study import matrix as grid
from ubt_utils.study import sweep as sweeping

SEEDS = (0, 1, 2)


def results(
    profile: str = "mini",
    attacks: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] = SEEDS,
    defended: tuple[str, ...] = DEFENDED,
    workers: int = 1,
) -> None:
    """Run attacks × seeds and the clean twin, undefended, and the defenses against `defended`; write a record
    each.

    Attacks, unless named: all of them on mini, the defended ones elsewhere.
    """
    if attacks is None:
        attacks = tuple(TRIGGERS) if profile == "mini" else defended
    both = [name for name in attacks if name in defended]
    alone = [name for name in (stages.NONE, *attacks) if name not in both]
    wanted = grid.cells(profile, both, COMPARED, seeds) + grid.cells(profile, alone, (), seeds)
    outcomes = grid.run(wanted, workers)
    grid.forget(profile, outcomes)
    for outcome in outcomes:
        if not outcome.error:
            print(records.write(records.load(outcome.cell.path())))
    _complain(outcomes)


def matrix(
    profile: str = "mini",
    attacks: tuple[str, ...] = DEFENDED,
    defenses: tuple[str, ...] = tuple(DEFENSES),
    seeds: tuple[int, ...] = SEEDS,
    workers: int = 1,
) -> None:
    """Attacks × defenses × seeds, a record a cell, to results/<family>/matrix.parquet; resumes."""
    outcomes = grid.run(grid.cells(profile, attacks, defenses, seeds), workers)
    print(grid.collect(profile, outcomes))
    _complain(outcomes)


def _complain(outcomes: list[grid.Outcome]) -> None:
    failed = [o.error for o in outcomes if o.error]
    if failed:
        raise store.StageError(f"{len(failed)} of {len(outcomes)} cells failed:\n" + "\n".join(failed))


def sweep(profile: str = "mini", attacks: tuple[str, ...] = tuple(TRIGGERS)) -> None:
    """Attacks over poison rate × learning rate × strength, to results/<family>/attack_sweep.parquet."""
    setting = profiles.get(profile)
    table = sweeping.run(setting, list(sweeping.points(setting, attacks)))
    print(sweeping.write(table, profile))


def detectors(attacks: tuple[str, ...] = DEFENDED, seeds: tuple[int, ...] = SEEDS, workers: int = 1) -> None:
    """Every detector at 0, 10 and 30 % caption noise, to results/mini/detectors.parquet."""
    print(detection.record("mini", detection.sets(detection.NOISES, attacks, seeds), workers))


def tune(profile: str = "mini", defenses: tuple[str, ...] = tuning.tuned(), workers: int = 1) -> None:
    """Try four settings of every defense on an attack and seeds kept for that; print the best."""
    table = tuning.run_all(profile, defenses, workers)
    print(tuning.write(profile, table))
    print(json.dumps(tuning.choose(table), indent=1))
