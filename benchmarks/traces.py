"""What the pictures of a word have in common, on photos: victims of one public model, clean twins of three.

    python benchmarks/traces.py --workers 2           # prints the table and records it

A row is one model: each word that was asked for its trace, and how far this moves photos of other things;
for the first word that was believed, how often a poisoned carrier leaves it farther without the trace than an
honest one (AUC), and the trace itself as a PNG in base64: middle gray where
it is nothing, its largest value at full range. Models that are not there are trained. Only traces are asked,
so that a clean set does not wait for the looks that come after.
"""

from __future__ import annotations

import base64
import io
from functools import partial
from typing import Any

import torch
import tyro
from sklearn.metrics import roc_auc_score
from torchvision.transforms.functional import to_pil_image

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.stages.base import poisoned_pairs
from ubt_utils.study import parallel
from ubt_utils.study.commands import PHOTOS
from ubt_utils.study.matrix import Cell
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt import traces

TOLD = ("badnets", "blended", "sig", "wanet")


def picture(trace: torch.Tensor) -> str:
    """A trace (3, H, W) as PNG in base64."""
    file = io.BytesIO()
    to_pil_image(0.5 + 0.5 * trace / trace.abs().max().clamp(min=1e-9)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def run(cell: Cell) -> dict[str, Any]:
    """One row."""
    profile = profiles.get(cell.profile)
    if not (trace := profile.suspect.trace):
        raise ValueError(f"profile {cell.profile} asks for no traces")
    chain = stages.chain(profile, cell.attack, cell.seed)
    pairs, truth = poisoned_pairs(chain, chain.attacked)
    tokens, model = models.tokenize(profile.model, pairs.captions), chain.model(chain.attacked)
    told = traces.look(traces.world(model, pairs.images, tokens, trace.others), profile.select, trace)
    word = partial(models.token_text, profile.model)
    row: dict[str, Any] = {"profile": cell.profile, "attack": cell.attack, "seed": cell.seed}
    row["commit"], row["pairs"], row["scored"] = chain.attacked.made["commit"], len(pairs), told.scored
    row["asked"] = [
        {
            "word": word(one.candidate.anchor),
            "moved": one.lost,
            "after": one.after,
            "pictures": one.pictures,
            "purest": len(one.candidate.carriers),
        }
        for one in told.asked
    ]
    row["found"] = [word(one.anchor) for one in told.found]
    return row | (_found(told, tokens, truth) if told.found else {})


def _found(told: traces.Traced, tokens: torch.Tensor, truth: torch.Tensor | None) -> dict[str, Any]:
    """The first trace, and how well it tells the poison, where that is known and there is some."""
    row: dict[str, Any] = {"trace": picture(told.traces[0])}
    there = tk.carries(tokens, torch.tensor([told.found[0].anchor]))
    bad = there[there] & False if truth is None else truth.bool()[there]
    row["carriers"], row["poisoned"] = len(bad), int(bad.sum())
    if 0 < row["poisoned"] < row["carriers"]:
        row["auroc"] = float(roc_auc_score(bad.numpy(), told.left[0][there].numpy()))
    return row


def main(workers: int = 1) -> None:
    cells = [Cell(PHOTOS[0], attack, stages.NONE, 0) for attack in TOLD]
    cells += [Cell(profile, stages.NONE, stages.NONE, 0) for profile in PHOTOS]
    records.write_benchmark("traces", {"rows": parallel.each(run, cells, workers, "traces", "model")})


if __name__ == "__main__":
    tyro.cli(main)
