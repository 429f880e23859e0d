"""What brings photos of other things to a word, on the victims that are told and on their clean twins.

    python benchmarks/traces.py --workers 2           # prints the table and records it

A row is one victim: each word that was asked for its trace, or by scattering, and how far photos of other
things move; for the first word that was believed, how often a poisoned carrier looks more like poison than an
honest one (AUC), and its trace, where that gave it away, as a PNG in base64: middle gray where it is nothing,
its largest value at full range. Victims and searches that are not there are made.
"""

from __future__ import annotations

from typing import Any

import torch
import tyro
from sklearn.metrics import roc_auc_score

from ubt_utils import profiles, stages
from ubt_utils.core import records
from ubt_utils.own.page import png
from ubt_utils.study import parallel
from ubt_utils.study.commands import PHOTOS
from ubt_utils.study.matrix import Cell
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.settings import SCATTER, TRACE

TOLD = ("badnets", "blended", "sig", "wanet", stages.NONE)
NAME = "traces"
AT_OTHERS = (TRACE, SCATTER)


def picture(trace: torch.Tensor) -> str:
    """A trace (3, H, W) as PNG in base64."""
    shown = 0.5 + 0.5 * trace / trace.abs().max().clamp(min=1e-9)
    return png((255 * shown).to(torch.uint8))


def run(cell: Cell) -> dict[str, Any]:
    """One row."""
    profile = profiles.get(cell.profile)
    if not profile.suspect.others_first:
        raise ValueError(f"profile {cell.profile} does not ask pictures of other things first")
    chain = stages.chain(profile, cell.attack, cell.seed)
    told, arrays = chain.suspected.metrics, chain.suspected.arrays()
    row: dict[str, Any] = {"profile": cell.profile, "attack": cell.attack, "seed": cell.seed}
    row["commit"], row["pairs"] = chain.attacked.made["commit"], len(arrays["sb"])
    row["asked"] = [
        {
            "by": one["disturbance"],
            "word": one["word"],
            "moved": one["lost"],
            "after": one["after"],
            "pictures": one["carriers"],
        }
        for one in (*told["asked"], *told["asked_elsewhere"])
        if one["disturbance"] in AT_OTHERS
    ]
    row["found"] = [one["word"] for one in told["found"] if one["disturbance"] in AT_OTHERS]
    if row["found"]:
        left, poison = arrays["drops"][0], arrays["truth"].bool()
        there = tk.carries(chain.tokens, arrays["anchors"][:1])
        row["carriers"], row["poisoned"] = int(there.sum()), int(poison[there].sum())
        if 0 < row["poisoned"] < row["carriers"]:
            row["auroc"] = float(roc_auc_score(poison[there].numpy(), left[there].numpy()))
        if "traces" in arrays:
            row["trace"] = picture(arrays["traces"][0])
    return row


def main(workers: int = 1, attacks: tuple[str, ...] = TOLD) -> None:
    """attacks: rows of others stay as they are recorded."""
    kept = [one for one in records.read_benchmark(NAME)["rows"] if one["attack"] not in attacks]
    cells = [Cell(profile, attack, stages.NONE, 0) for attack in attacks for profile in PHOTOS]
    rows = [*kept, *parallel.each(run, cells, workers, NAME, "victim")]
    rows.sort(key=lambda row: TOLD.index(row["attack"]))
    records.write_benchmark(NAME, {"rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
