"""Stage overfit: UBT step 2, the two overfit models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core.store import Stage, run_stage, save_arrays, scratch
from ubt_utils.data.pictures import take
from ubt_utils.stages.base import Run, load_model, poisoned_pairs
from ubt_utils.ubt.overfit import halves_of, overfit_half

SIDES = (0, 1)  # halves of the pool


def weights_of(side: int) -> str:
    """The file of the model that was not trained on this side, and scores it."""
    return f"overfit-{side}.safetensors"


def scores_of(suspected: Stage, overfitted: Stage) -> tuple[Scores, torch.Tensor]:
    """What the detectors see of these stages, and the truth (N,) bool."""
    a, b = suspected.arrays(), overfitted.arrays()
    return Scores(b["s0"], a["sb"], b["s1"], a["drop"], a["pool"].bool()), b["truth"].bool()


def overfit(run: Run, public: Stage, attacked: Stage, suspected: Stage) -> Stage:
    """Two models overfit on the halves of the pool, and how similar each finds the other half.

    Arrays, each over the N pairs of D: s1, half, path (reads + 1, N) with its steps; s0 under f0 is for other
    detectors, and truth for evaluation only. The cost is that of UBT: without s0.
    """
    profile, seed, how = run.profile, run.seed, run.profile.overfit

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(profile, attacked, seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        s0 = similarity(load_model(profile, public), pairs.images, tokens)
        pool, score_seconds = suspected.arrays()["pool"].bool(), 0.0
        half = halves_of(pool, seed)
        s1 = torch.full((len(pairs),), -torch.inf)
        path = s1.repeat(how.reads + 1, 1)
        train_seconds, pairs_seen = 0.0, 0
        for side in SIDES:
            model, held = load_model(profile, attacked), half == side
            history = overfit_half(
                model, pairs, tokens, half, side, how.recipe, how.reads, seed,
                checkpoint=scratch(folder).with_name(f"half-{side}.pt"),
            )  # fmt: skip
            start = time.perf_counter()
            s1[held] = similarity(model, take(pairs.images, held), tokens[held])
            score_seconds += time.perf_counter() - start
            path[:, held] = torch.stack([value for _, value in history.curve])
            steps = torch.tensor([step for step, _ in history.curve])
            models.save(model, profile.model, folder / weights_of(side))
            train_seconds, pairs_seen = train_seconds + history.seconds, pairs_seen + history.pairs_seen
        save_arrays(
            folder, s0=s0, s1=s1, path=path, steps=steps, half=half, truth=truth.to(torch.uint8),
        )  # fmt: skip
        return {
            "train_seconds": train_seconds,
            "score_seconds": score_seconds,
            "pairs_seen": pairs_seen,
            "pairs_scored": int(pool.sum()),
        }

    config = run.config() | {"overfit": asdict(how)}
    inputs = {"public": public, "attacked": attacked, "suspected": suspected}
    return run_stage(run.parts, "overfit", config, work, inputs, run.modules(__name__))
