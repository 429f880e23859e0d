"""The commands that make records: many runs at a time, to results/, and the README's tables from there."""

from __future__ import annotations

import json

from ubt_utils import (
    carryover,
    comparison,
    profiles,
    report,
    runs,
    stages,
    standings,
    standings_figures,
    suite,
    tuning,
)
from ubt_utils import matrix as grid
from ubt_utils import sweep as sweeping
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.defenses import COMPARED, DEFENSES

SEEDS = (0, 1, 2)
PICTURE = "standing.png"


def results(
    profile: str = "mini",
    attacks: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] = SEEDS,
    defended: tuple[str, ...] = carryover.DEFENDED,
) -> None:
    """Run attacks × seeds, and the defenses against `defended`; write records and README tables.

    Attacks, unless named: the whole suite on mini, the defended ones elsewhere.
    """
    setting = profiles.get(profile)
    attacks = attacks or (tuple(TRIGGERS) if profile == "mini" else defended)
    for seed in seeds:
        for name in (stages.NONE, *attacks):
            for defense in ("none", *COMPARED) if name in defended else ("none",):
                print(report.write(stages.record(setting, name, seed, defense)), flush=True)
    _tell(profile)
    print(report.as_text(profile))


def _tell(profile: str) -> None:
    """The README's tables of a profile's own records."""
    if profile == "mini":
        report.update_readme("headline", report.as_markdown(profile))
        report.update_readme("attacks", suite.as_markdown(profile))
    if profile == "photos":
        report.update_readme("photos", carryover.as_markdown(profile))


def standing(profile: str) -> None:
    """The matrix's table in the README, and its picture under results/<profile>."""
    found = standings.cells(profile)
    report.update_readme("matrix", standings.as_markdown(found))
    standings_figures.summary(found).savefig(report.RESULTS / profile / PICTURE)


def sweep(profile: str = "mini", attacks: tuple[str, ...] = tuple(TRIGGERS)) -> None:
    """Attacks over poison rate × learning rate × strength, to results/<profile>/attack_sweep.parquet."""
    setting = profiles.get(profile)
    table = sweeping.run(setting, list(sweeping.points(setting, attacks)))
    print(sweeping.write(table, profile))


def matrix(
    profile: str = "mini",
    attacks: tuple[str, ...] = carryover.DEFENDED,
    defenses: tuple[str, ...] = tuple(DEFENSES),
    seeds: tuple[int, ...] = SEEDS,
    workers: int = 1,
) -> None:
    """Attacks × defenses × seeds, a record a cell, to results/<profile>/matrix.parquet; resumes."""
    wanted = grid.cells(profile, attacks, defenses, seeds)
    failed = grid.run(wanted, workers)
    print(grid.collect(profile, wanted))
    _tell(profile)
    if profile == standings.ORDINARY:
        standing(profile)
    if failed:
        raise runs.StageError(f"{len(failed)} of {len(wanted)} cells failed:\n" + "\n".join(failed))


def detectors(
    attacks: tuple[str, ...] = carryover.DEFENDED, seeds: tuple[int, ...] = SEEDS, workers: int = 1
) -> None:
    """Every detector at 0, 10 and 30 % caption noise, to results/mini/detectors.parquet."""
    table = comparison.record("mini", comparison.sets(comparison.NOISES, attacks, seeds), workers)
    print(comparison.by_noise(table).round(3).to_string())


def tune(profile: str = "mini", defenses: tuple[str, ...] = tuning.tuned(), workers: int = 1) -> None:
    """Try four settings of every defense on an attack and seeds kept for that; print the best."""
    table = tuning.run_all(profile, defenses, workers)
    print(tuning.write(profile, table))
    print(json.dumps(tuning.choose(table), indent=1))
