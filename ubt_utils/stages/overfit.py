"""Stage overfit: UBT step 2, the two overfit models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core.store import Stage, run_stage, save_arrays, scratch
from ubt_utils.stages.base import Run, load_model, poisoned_pairs, truth_array
from ubt_utils.ubt.overfit import halves_of, overfit_half

SIDES = (0, 1)  # halves of the pool


def weights_of(side: int) -> str:
    """The file of the model that was not trained on this side, and scores it."""
    return f"overfit-{side}.safetensors"


def scores_of(suspected: Stage, overfitted: Stage) -> tuple[Scores, torch.Tensor | None]:
    """What the detectors see of these stages, s0 no numbers where there is no public model; and the truth
    (N,) bool, None where it is unknown."""
    a, b = suspected.arrays(), overfitted.arrays()
    s0 = b.get("s0", torch.full_like(a["sb"], torch.nan))
    truth = b["truth"].bool() if "truth" in b else None
    return Scores(s0, a["sb"], b["s1"], a["drop"], a["pool"].bool()), truth


def overfit(run: Run, public: Stage | None, attacked: Stage, suspected: Stage) -> Stage:
    """Two models overfit on the halves of the pool, and how similar each finds the other half.

    Arrays, each over the N pairs of D: s1, half, path (reads + 1, N) with its steps; s0 under f0, where there
    is one, is for other detectors, and truth for evaluation only. The cost is that of UBT: without s0.
    """
    profile, seed, how = run.profile, run.seed, run.profile.overfit

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(run, attacked)
        tokens = models.tokenize(profile.model, pairs.captions)
        asked = (
            {} if public is None else {"s0": similarity(load_model(profile, public), pairs.images, tokens)}
        )
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
            path[:, held] = torch.stack([value for _, value in history.curve])
            s1[held] = path[-1, held]  # read behind the last step
            score_seconds += history.watched / len(history.curve)  # of one reading
            steps = torch.tensor([step for step, _ in history.curve])
            models.save(model, profile.model, folder / weights_of(side))
            train_seconds, pairs_seen = train_seconds + history.seconds, pairs_seen + history.pairs_seen
        save_arrays(
            folder, **asked, s1=s1, path=path, steps=steps, half=half, **truth_array(truth),
        )  # fmt: skip
        return {
            "train_seconds": train_seconds,
            "score_seconds": score_seconds,
            "pairs_seen": pairs_seen,
            "pairs_scored": int(pool.sum()),
        }

    config = run.config() | {"overfit": asdict(how)}
    inputs = {"attacked": attacked, "suspected": suspected, **({"public": public} if public else {})}
    return run_stage(run.parts, "overfit", config, work, inputs, run.modules(__name__))
