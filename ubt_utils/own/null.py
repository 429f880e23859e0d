"""Stage null: what as many pictures lose of their agreement that have nothing in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ubt_utils.clip import models
from ubt_utils.core.seeding import generator
from ubt_utils.core.store import Stage, run_stage, save_arrays
from ubt_utils.data.pictures import take
from ubt_utils.stages.base import Run, load_model, poisoned_pairs
from ubt_utils.ubt.disturb import change, mean_cosine

SAMPLE = 512  # pairs of D that are drawn from, at most
DRAWS = 999  # sets of pictures for each word


def null(run: Run, attacked: Stage, suspected: Stage) -> Stage:
    """What `suspect` asks of words, asked of pairs at random: for every disturbance and number of pictures
    among the words that were asked, what `DRAWS` sets of as many pairs lose.

    Metrics: asked, these pairs of disturbance and number. Arrays: lost (a, DRAWS), for each of them all
    losses, in order. It is no part of the method: the unlearning does not depend on it.
    """
    profile = run.profile
    wanted = sorted({(one["disturbance"], one["carriers"]) for one in suspected.metrics["asked"]})

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, _ = poisoned_pairs(run, attacked)
        draw = generator(run.seed, "null")
        pictures = take(pairs.images, torch.randperm(len(pairs), generator=draw)[:SAMPLE])
        model = load_model(profile, attacked)
        names = sorted({name for name, _ in wanted})
        whole = models.embed_images(model, pictures)
        disturbed = {
            name: models.embed_images(model, pictures, change=change(name))
            for name in tqdm(names, "random pairs", unit="pass", mininterval=1)
        }
        lost = torch.empty(len(wanted), DRAWS, dtype=torch.double)
        for i, (name, count) in enumerate(wanted):
            sets = torch.rand(DRAWS, len(pictures), generator=draw).topk(count).indices
            lost[i] = (agreements(whole, sets) - agreements(disturbed[name], sets)).sort().values
        save_arrays(folder, lost=lost)
        return {"asked": wanted}

    config = run.config() | {"sample": SAMPLE, "draws": DRAWS}
    inputs = {"attacked": attacked, "suspected": suspected}
    return run_stage(run.parts, "null", config, work, inputs, run.modules(__name__))


def agreements(embedded: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """(R,) `disturb.agreement` of R sets (R, n) of rows of the embeddings (M, D)."""
    return torch.stack([mean_cosine(embedded[one]) for one in sets])
