"""The matrix: attacks × defenses × seeds, one record a cell, collected in one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ubt_utils import profiles, stages
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import paths, records
from ubt_utils.core.checksum import sha256_of
from ubt_utils.core.store import StageError
from ubt_utils.study import parallel

DESIGN = ("f0_seed", "poison_rate", "cluster")  # what else a cell is, beside its keys
SELECTION = (
    "pool_recall", "poisonous", "poisonous_poisoned", "poisoned", "chosen", "chosen_poisoned",
    "outside_poisoned", "left_out",
)  # fmt: skip
TOLD = ("anchors", "found", "asked")  # lists, kept as JSON
RESULTS = (BackdoorDidNotTake, TrainingDiverged)  # a cell that ends so has no numbers, and that is a result
# These are none, and what an earlier run recorded stays. A RuntimeError is a damaged stage, or torch's:
# a GPU without memory left, say.
TROUBLE = (RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class Cell:
    """One defense (or "none") against one attack, with one seed."""

    profile: str
    attack: str
    defense: str
    seed: int

    def path(self) -> Path:
        """Where its record waits until it is collected."""
        name = records.name_of(self.attack, self.defense, self.seed)
        return paths.runs() / self.profile / "cells" / name

    def key(self) -> tuple[str, str, str, int]:
        """Its row in the table."""
        return self.profile, self.attack, self.defense, self.seed


@dataclass(frozen=True)
class Outcome:
    """What became of a cell. error: why there is no record, or "". is_result: whether that is a result, so
    that an earlier row no longer holds."""

    cell: Cell
    error: str = ""
    is_result: bool = False


def cells(profile: str, attacks: Iterable[str], defenses: Sequence[str], seeds: Iterable[int]) -> list[Cell]:
    """All cells, undefended first; neighbors are of different attacks, so that workers do not wait for one
    another's stages."""
    attacks = tuple(attacks)
    return [Cell(profile, a, d, s) for s in seeds for d in ("none", *defenses) for a in attacks]


def run_cell(cell: Cell) -> Outcome:
    """Run what a cell needs and write its record, whole or not at all."""
    try:
        run = stages.chain(profiles.get(cell.profile), cell.attack, cell.seed)
        records.write(stages.record(run, cell.defense), cell.path())
    except (*RESULTS, *TROUBLE) as error:
        is_result = isinstance(error, RESULTS)
        if is_result:
            cell.path().unlink(missing_ok=True)
        return Outcome(cell, f"{cell.attack}, {cell.defense}, seed {cell.seed}: {error}", is_result)
    return Outcome(cell)


def run(wanted: Sequence[Cell], workers: int = 1) -> list[Outcome]:
    """Run all cells in `workers` processes. A finished stage is read, not run again; after a kill the same
    call goes on."""
    return parallel.each(run_cell, wanted, workers, "matrix", "cell")


def row(record: dict[str, Any]) -> dict[str, Any]:
    """A record as one flat row: keys, metrics, what it descends from, where it was made, the curve as
    JSON."""
    metrics = {k: v for k, v in record["metrics"].items() if isinstance(v, (int, float))}
    rates = {
        f"{name}_{end}": record["rates"][name][end] for name in record["rates"] for end in ("low", "high")
    }
    return {
        **{key: record[key] for key in records.KEYS},
        **{key: record[key] for key in DESIGN if key in record},
        **metrics,
        **rates,
        **{key: record[key] for key in SELECTION if key in record},
        **{key: json.dumps(record[key]) for key in TOLD if key in record},
        "victim_seconds": record.get("train_seconds", {}).get("attack", np.nan),
        "f0": records.public_model(record),
        **{key: record["environment"][key] for key in ("date", "commit", "device", "threads", "workers")},
        "stages": json.dumps(record["stages"]),
        "contents": json.dumps(record["contents"]),
        "made": json.dumps(record["made"]),
        "curve": json.dumps(record.get("curve", [])),
    }


def collect(profile: str, outcomes: Sequence[Outcome]) -> Path:
    """Write the finished cells to results/<family>/matrix.parquet, their predictions beside. Cells of the
    table that are not among them stay, and so do those that failed; those that are now known to have no
    numbers go. Where a cell has a record under results/<profile>, too, that one is renewed, so that both
    are of the same run. StageError where the predictions of a cell are no longer what its record says."""
    forget(profile, outcomes)
    found = [records.load(o.cell.path()) for o in outcomes if not o.error]
    for record in found:
        if records.path_of(record).exists():
            records.write(record)
    for attack in sorted({record["attack"] for record in found}):
        _keep_predictions(profile, [record for record in found if record["attack"] == attack])
    return records.merge(_table(profile), pd.DataFrame(map(row, found)), list(records.KEYS))


def forget(profile: str, outcomes: Sequence[Outcome]) -> None:
    """Remove what is recorded of the cells that are now known to have no numbers: row, record,
    predictions."""
    gone = [o.cell for o in outcomes if o.is_result]
    for cell in gone:
        records.path_of(asdict(cell)).unlink(missing_ok=True)
        if (path := records.predictions_path(_family(profile), cell.profile, cell.attack)).exists():
            records.merge(path, pd.DataFrame(), list(records.PREDICTED), [cell.key()])
    if gone and _table(profile).exists():
        records.merge(_table(profile), pd.DataFrame(), list(records.KEYS), [cell.key() for cell in gone])


def _keep_predictions(profile: str, found: Sequence[dict[str, Any]]) -> None:
    """Put the predictions of some cells of one attack among those of the profile, in place of their old
    ones."""
    cells, frames = [], []
    for record in found:
        if (frame := _predictions(profile, record)) is not None:
            keys = {key: record[key] for key in records.KEYS}
            cells.append(tuple(keys.values()))
            frames.append(frame.assign(**keys))
    if frames:
        path = records.predictions_path(_family(profile), profile, found[0]["attack"])
        records.merge(path, pd.concat(frames), list(records.PREDICTED), cells)


def _predictions(profile: str, record: dict[str, Any]) -> pd.DataFrame | None:
    """What the cell's evaluation wrote; None in records from before predictions were kept."""
    content = record["contents"].get("evaluate", {}).get(records.PREDICTIONS)
    if content is None:
        return None
    parts = _family(profile), record["attack"], str(record["seed"]), record["stages"]["evaluate"]
    path = paths.runs().joinpath(*parts, records.PREDICTIONS)
    if not path.exists() or sha256_of(path) != content:
        raise StageError(f"{path} is missing or was changed since it was written: run the cell again")
    return pd.read_parquet(path)


def _family(profile: str) -> str:
    return profiles.get(profile).family


def _table(profile: str) -> Path:
    return records.table_path(_family(profile), records.MATRIX)
