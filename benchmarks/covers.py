"""What covering a quarter of a photo adds to detection, on victims of the trials.

    python benchmarks/covers.py --workers 2           # prints the table and records it

A row is one victim: for each disturbance of the first look, how often it takes more of a poisoned pair than
of an honest one (AUC, of the pairs that the look disturbs), and what the vote and the proof find there
without the covers and with them. Victims and searches that are not there are made.
"""

from __future__ import annotations

from typing import Any

import tyro
from halves import found_in, only

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.evaluate import metrics
from ubt_utils.stages.base import poisoned_pairs
from ubt_utils.study import parallel, tuning
from ubt_utils.study.matrix import Cell
from ubt_utils.ubt.disturb import COVERS
from ubt_utils.ubt.pool import weakest
from ubt_utils.ubt.settings import looks


def run(cell: Cell) -> dict[str, Any]:
    """One row."""
    profile = profiles.get(cell.profile).disturbing()
    chain = stages.chain(profile, cell.attack, cell.seed)
    pairs, truth = poisoned_pairs(chain, chain.attacked)
    if truth is None or not truth.any():
        raise ValueError(
            f"{cell.profile}, {cell.attack}: covers are told apart by its poison, and it has none"
        )
    arrays = chain.suspected.arrays()
    first, _ = looks(profile.suspect, profile.select)
    there = weakest(arrays["sb"], first.part)
    fallen = only(arrays["drops"][: len(first.family)], there)
    bad = truth[there].bool()
    row: dict[str, Any] = {"profile": cell.profile, "attack": cell.attack, "seed": cell.seed}
    row["commit"], row["poison"] = chain.attacked.made["commit"], int(bad.sum())
    row["auroc"] = {
        name: metrics.detection(drop[there], bad)["auroc"]
        for name, drop in zip(first.family, fallen, strict=True)
    }
    tokens, model = models.tokenize(profile.model, pairs.captions), chain.model(chain.attacked)
    plain = [k for k, name in enumerate(first.family) if name not in COVERS]
    for name, kept in (("without covers", plain), ("with covers", range(len(first.family)))):
        look = first._replace(family=tuple(first.family[k] for k in kept))
        row[name] = found_in(model, profile.model, pairs.images, tokens, fallen[list(kept)], look)
    return row


def main(profile: str = "photos", workers: int = 1) -> None:
    cells = [Cell(profile, attack, stages.NONE, seed) for attack, seed in tuning.VICTIMS]
    records.write_benchmark("covers", {"rows": parallel.each(run, cells, workers, "covers", "victim")})


if __name__ == "__main__":
    tyro.cli(main)
