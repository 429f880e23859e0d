"""The matrix: attacks × defenses × seeds, one record a cell, collected in one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils import parallel, profiles, report, runs, stages, tables
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.training import TrainingDiverged

NAME = "matrix.parquet"
SELECTION = ("pool_recall", "anchor", "chosen", "chosen_poisoned", "outside_poisoned", "left_out")
# A cell that fails so is told, and the others go on.
EXPECTED = (BackdoorDidNotTake, TrainingDiverged, runs.StageError, ValueError)


@dataclass(frozen=True)
class Cell:
    """One defense (or "none") against one attack, with one seed."""

    profile: str
    attack: str
    defense: str
    seed: int

    def path(self) -> Path:
        """Where its record waits until it is collected."""
        name = report.record_name(self.attack, self.defense, self.seed)
        return runs.root() / self.profile / "cells" / name


def cells(profile: str, attacks: Iterable[str], defenses: Sequence[str], seeds: Iterable[int]) -> list[Cell]:
    """All cells, undefended first; neighbors are of different attacks, so that workers do not wait for one
    another's stages."""
    attacks = tuple(attacks)
    return [Cell(profile, a, d, s) for s in seeds for d in ("none", *defenses) for a in attacks]


def run_cell(cell: Cell) -> str:
    """Run what a cell needs and write its record, whole or not at all; its error, if an expected one."""
    try:
        found = stages.record(profiles.get(cell.profile), cell.attack, cell.seed, cell.defense)
    except EXPECTED as error:
        cell.path().unlink(missing_ok=True)  # what an earlier setting reached is no result of this one
        return f"{cell.attack}, {cell.defense}, seed {cell.seed}: {error}"
    report.write_record(cell.path(), found)
    return ""


def run(wanted: Sequence[Cell], workers: int = 1) -> list[str]:
    """Run all cells in `workers` processes; returns the errors of those that failed.

    A finished cell is read, not run again; after a kill the same call goes on.
    """
    return [error for error in parallel.each(run_cell, wanted, workers, "matrix", "cell") if error]


def row(record: dict[str, Any]) -> dict[str, Any]:
    """A record as one flat row: keys, metrics, where it was measured, and the curve as JSON."""
    metrics = {k: v for k, v in record["metrics"].items() if isinstance(v, (int, float))}
    rates = {
        f"{name}_{end}": record["rates"][name][end] for name in record["rates"] for end in ("low", "high")
    }
    return {
        **{key: record[key] for key in report.KEYS},
        **metrics,
        **rates,
        **{key: record[key] for key in SELECTION if key in record},
        **{key: record["environment"][key] for key in ("date", "commit", "device")},
        "stages": json.dumps(record["stages"]),
        "curve": json.dumps(record.get("curve", [])),
    }


def path_of(profile: str) -> Path:
    """Where the table is; profiles of one family, such as mini and mini-few10, share it."""
    return report.RESULTS / profiles.get(profile).family / NAME


def collect(profile: str, wanted: Sequence[Cell]) -> Path:
    """Write the finished ones of these cells to results/<family>/matrix.parquet, in their order.

    Cells of the table that are not among those wanted stay; those wanted that failed go. Where a cell has a
    record under results/<profile>, too, that one is renewed, so that both tell of the same run.
    """
    found = [json.loads(c.path().read_text(encoding="utf-8")) for c in wanted if c.path().exists()]
    for record in found:
        if report.path_of(record).exists():
            report.write(record)
    asked = [(c.profile, c.attack, c.defense, c.seed) for c in wanted]
    return tables.merge(path_of(profile), pd.DataFrame(map(row, found)), list(report.KEYS), asked)


def read(profile: str) -> pd.DataFrame:
    """The recorded matrix, a row a cell; a FileNotFoundError says how to make it."""
    return tables.read(path_of(profile), "make matrix")


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """The path of each cell that was defended: profile, attack, defense, seed, step, and the rates there."""
    rows = [
        {**{key: cell[key] for key in report.KEYS}, **point}
        for cell in table.to_dict("records")
        for point in json.loads(cell["curve"])
    ]
    return pd.DataFrame(rows)


def rows(profile: str) -> pd.DataFrame:
    """Tidy rows {profile, attack, defense, seed, metric, value} of everything that is recorded of a profile:
    its own records, and the cells of the matrix that these do not hold. Headline metrics; fractions 0–1,
    seconds in s. Raises FileNotFoundError when neither knows the profile.
    """
    keys = list(report.KEYS)
    cells = pd.DataFrame(columns=keys)
    if path_of(profile).exists():
        found = read(profile)
        cells = found[found.profile == profile]
    melted = cells.melt(keys, [m for m in report.HEADLINE if m in cells], "metric").dropna(subset="value")
    if (report.RESULTS / profile).is_dir() or melted.empty:
        own = report.rows(profile)
        melted = pd.concat([own[own.metric.isin(report.HEADLINE)], melted])
    return melted.drop_duplicates([*keys, "metric"]).sort_values([*keys, "metric"], ignore_index=True)
