"""Attacks on photos that are not in the table, since their public models are others than the table's.

    UBT_DATA=… python benchmarks/apart.py --workers 2      # hours; prints and records

The text tower of f0 comes out otherwise on a machine whose processor does not multiply in bf16, and the rows
of one profile must descend from one public model (`report/evidence.py`). What was run on such a machine
stands here: a row is one model, undefended or defended, with the checksum of the f0 that it descends from.
"""

from __future__ import annotations

from typing import Any

import tyro

from ubt_utils import profiles, stages
from ubt_utils.core import records
from ubt_utils.study import matrix, parallel
from ubt_utils.study.commands import PHOTOS
from ubt_utils.study.matrix import Cell

NAME = "apart"
MEASURED = ("clean_accuracy", "target_recall", "robust_accuracy", "asr")
KEPT = (
    *records.KEYS, "f0", "commit", "psnr", *MEASURED, "image_to_text_r5", "image_to_text_asr",
    *(f"public_{name}" for name in MEASURED), *(f"twin_{name}" for name in MEASURED),
    "poisonous", "poisonous_poisoned", "chosen", "chosen_poisoned", "found",
)  # fmt: skip


def run(cell: Cell) -> dict[str, Any]:
    """One row; what a model does not have is left out."""
    chain = stages.chain(profiles.get(cell.profile), cell.attack, cell.seed)
    row = matrix.row(stages.record(chain, cell.defense))
    return {name: row[name] for name in KEPT if name in row}


def main(
    attacks: tuple[str, ...] = ("badclip",),
    defenses: tuple[str, ...] = (stages.NONE, "ubt"),
    workers: int = 1,
) -> None:
    """attacks, defenses: those to run on each public model, seed 0; they are all that is recorded."""
    cells = [Cell(p, attack, d, 0) for attack in attacks for d in defenses for p in PHOTOS]
    records.write_benchmark(NAME, {"rows": parallel.each(run, cells, workers, NAME, "model")})


if __name__ == "__main__":
    tyro.cli(main)
