"""Stage select: UBT steps 3 and 4, from overfit scores to the unlearning set D_u and the tokens B."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.baselines.detectors.similarities import FROM_SIMILARITIES
from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core.store import Stage, run_stage, save_arrays
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import take
from ubt_utils.evaluate import metrics
from ubt_utils.stages.base import Run, load_model, poisoned_pairs
from ubt_utils.stages.overfit import SIDES, scores_of, weights_of
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.select import Selection, alike, carriers_outside
from ubt_utils.ubt.select import select as choose


def select(run: Run, attacked: Stage, overfitted: Stage) -> Stage:
    """The unlearning set D_u, the tokens B, and how good every detector is (of a D without poison nothing of
    the kind can be said).

    Arrays: chosen (k,), score (N,), compromised (b,); outside the pool, carriers of B (c,), their gain (c,),
    and left_out (l,) of them; per token of D_u ids, count, surprise, drop (T,); drops (k, L), the occlusion
    of each token of each chosen caption.
    """
    profile = run.profile

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(profile, attacked, run.seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        scores, _ = scores_of(overfitted)
        start = time.perf_counter()
        found = choose(tokens, scores.overfit, scores.pool, profile.select)
        look = _second_look(load_model(profile, attacked), pairs, tokens, scores, found)
        seconds = time.perf_counter() - start
        drops = _drops(run, overfitted, pairs.images, tokens, found.chosen)
        evidence = tk.evidence(tokens, found.chosen, drops)
        save_arrays(
            folder, **look,
            chosen=found.chosen, score=found.score, compromised=found.compromised, drops=drops,
            ids=evidence.ids, count=evidence.count, surprise=evidence.surprise, drop=evidence.drop,
        )  # fmt: skip
        ranked = {name: f(scores) for name, f in FROM_SIMILARITIES.items()} | {"ubt": found.score}
        table = {n: metrics.detection(value, truth) for n, value in ranked.items()} if truth.any() else {}
        return {
            "seconds": seconds,
            "anchor": models.token_text(profile.model, found.anchor),
            "plain_anchor": models.token_text(profile.model, _loudest(tokens, scores.pool)),
            "tokens": [models.token_text(profile.model, t) for t in found.compromised.tolist()],
            "chosen": len(found.chosen),
            "chosen_poisoned": int(truth[found.chosen].sum()),
            "pairs_scored": len(found.chosen) + len(look["carriers"]),
            "outside_poisoned": int(truth[~scores.pool].sum()),
            "left_out": len(look["left_out"]),
            "left_out_poisoned": int(truth[look["left_out"]].sum()),
            "detectors": table,
            **table.get("ubt", {}),
        }

    config = run.config() | {"select": asdict(profile.select)}
    inputs = {"attacked": attacked, "overfitted": overfitted}
    return run_stage(run.parts, "select", config, work, inputs, run.modules(__name__))


def _second_look(
    model: nn.Module, pairs: Pairs, tokens: torch.Tensor, scores: Scores, found: Selection
) -> dict[str, torch.Tensor]:
    """Outside the pool: carriers of B (c,), their gain under fb (c,), and left_out (l,), those like D_u.

    fb scores them here, though `overfit` keeps sb of all pairs for other detectors: UBT pays for its look.
    """
    carriers = carriers_outside(tokens, scores.pool, found.compromised)
    asked = torch.cat([found.chosen, carriers])
    gain = similarity(model, take(pairs.images, asked), tokens[asked]) - scores.public[asked]
    known, gain = gain[: len(found.chosen)], gain[len(found.chosen) :]
    return {"carriers": carriers, "gain": gain, "left_out": carriers[alike(known, gain)]}


def _loudest(tokens: torch.Tensor, pool: torch.Tensor) -> int:
    """The token of the largest surprise in all of the pool: what the vote would name without its rules."""
    ids, _, surprise = tk.surprise(tokens, pool.nonzero().flatten())
    return int(ids[surprise.argmax()])


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
