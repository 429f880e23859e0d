"""Stage select: UBT steps 3 and 4, from the vote and the overfit scores to the unlearning set D_u and the
tokens B."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.baselines.detectors.similarities import FROM_SIMILARITIES
from ubt_utils.clip import models
from ubt_utils.core.store import Stage, run_stage, save_arrays
from ubt_utils.evaluate import metrics
from ubt_utils.stages.base import Run, load_model, poison_among, poisoned_pairs
from ubt_utils.stages.overfit import SIDES, scores_of, weights_of
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.select import select as choose


def select(run: Run, attacked: Stage, suspected: Stage, overfitted: Stage) -> Stage:
    """The unlearning set D_u, the tokens B, and how good the detectors by similarity are (of a D without
    poison, or of which nobody knows, nothing of the kind can be said).

    Arrays: chosen (k,), score (N,), compromised (b,), poisonous (N,); per token of D_u ids, count, surprise,
    drop (T,); drops (k, L), the occlusion of each token of each chosen caption. All but score and poisonous
    are empty where nothing was found."""
    profile = run.profile

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(run, attacked)
        tokens = models.tokenize(profile.model, pairs.captions)
        scores, _ = scores_of(suspected, overfitted)
        suffers, how = suspected.arrays()["suffers"], profile.select
        start = time.perf_counter()
        anchors = suspected.arrays()["anchors"]
        found = choose(tokens, scores.overfit, scores.pool, suffers >= how.sure, anchors, how)
        seconds = time.perf_counter() - start
        drops = _drops(run, overfitted, pairs.images, tokens, found.chosen)
        save_arrays(
            folder, chosen=found.chosen, score=found.score, compromised=found.compromised, drops=drops,
            poisonous=(suffers >= how.alike).to(torch.uint8), **_evidence(tokens, found.chosen, drops),
        )  # fmt: skip
        table = {} if truth is None or not truth.any() else _ranked(scores, found.score, truth)
        poisonous = suffers >= how.alike
        left_out = poisonous & ~scores.pool
        return {
            "seconds": seconds,
            "anchors": [one["word"] for one in suspected.metrics["found"]],
            "tokens": [models.token_text(profile.model, t) for t in found.compromised.tolist()],
            "poisonous": int(poisonous.sum()),
            "poisonous_poisoned": poison_among(truth, poisonous),
            "chosen": len(found.chosen),
            "chosen_poisoned": poison_among(truth, found.chosen),
            "outside_poisoned": poison_among(truth, ~scores.pool),
            "left_out": int(left_out.sum()),
            "left_out_poisoned": poison_among(truth, left_out),
            "detectors": table,
            **table.get("ubt", {}),
        }

    config = run.config() | {"select": asdict(profile.select)}
    inputs = {"attacked": attacked, "suspected": suspected, "overfitted": overfitted}
    return run_stage(run.parts, "select", config, work, inputs, run.modules(__name__))


def _ranked(scores: Scores, ubt: torch.Tensor, truth: torch.Tensor) -> dict[str, dict[str, float]]:
    """How well the detectors by similarity, and UBT's list, tell the poison."""
    found = {name: f(scores) for name, f in FROM_SIMILARITIES.items()} | {"ubt": ubt}
    return {name: metrics.detection(value, truth) for name, value in found.items()}


def _evidence(tokens: torch.Tensor, chosen: torch.Tensor, drops: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `tokens.evidence` says of D_u, by name; empty where there is none."""
    if len(chosen) == 0:
        return {"ids": chosen.clone(), **{name: torch.empty(0) for name in ("count", "surprise", "drop")}}
    found = tk.evidence(tokens, chosen, drops)
    return {"ids": found.ids, "count": found.count, "surprise": found.surprise, "drop": found.drop}


def _drops(
    run: Run, overfitted: Stage, images: torch.Tensor, tokens: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """(k, L) occlusion of the chosen captions, each under the model that was not trained on it."""
    half = overfitted.arrays()["half"][chosen]
    drops = torch.zeros(len(chosen), tokens.shape[1])
    for side in SIDES:
        here = half == side
        if here.any():
            model = load_model(run.profile, overfitted, weights_of(side))
            drops[here] = tk.occlude(model, images[chosen[here]], tokens[chosen[here]])
    return drops
