"""Stages overfit and select: from a poisoned set and two models to the unlearning set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ubt_utils import detectors, metrics, models, runs
from ubt_utils import tokens as tk
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import take
from ubt_utils.detectors.overfit import halves_of, overfit_half, pool_of
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.scoring import similarity
from ubt_utils.selection import ALIKE, Selection, alike, carriers_outside
from ubt_utils.selection import select as choose
from ubt_utils.stages.attack import attack
from ubt_utils.stages.common import base_config, load_model, poisoned_pairs
from ubt_utils.stages.pretrain import pretrain

SIDES = (0, 1)


def overfit(profile: Profile, attack_name: str, seed: int) -> Stage:
    """UBT steps 1 and 2: the pool under f0, two overfit models, and all similarities.

    Arrays, each over the N pairs of D: s0, s1, pool, half, path (reads + 1, N) with its steps;
    sb and truth are for comparison and evaluation only. The cost is that of UBT: without sb.
    """
    attacked, public = attack(profile, attack_name, seed), pretrain(profile)
    config = base_config(profile, seed, (attacked, public)) | {"overfit": asdict(profile.overfit)}

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(profile, attacked, seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        sb = similarity(load_model(profile, attacked), pairs.images, tokens)  # for other detectors
        start = time.perf_counter()
        s0 = similarity(load_model(profile, public), pairs.images, tokens)
        score_seconds = time.perf_counter() - start
        pool = pool_of(s0, profile.overfit.pool)
        half = halves_of(pool, seed)
        s1 = torch.full((len(pairs),), -torch.inf)
        path = s1.repeat(profile.overfit.reads + 1, 1)
        train_seconds, pairs_seen = 0.0, 0
        for side in SIDES:
            model, held = load_model(profile, attacked), half == side
            history = overfit_half(
                model, pairs, tokens, half, side, profile.overfit.recipe, profile.overfit.reads, seed,
                checkpoint=runs.scratch(folder).with_name(f"half-{side}.pt"),
            )  # fmt: skip
            start = time.perf_counter()
            s1[held] = similarity(model, take(pairs.images, held), tokens[held])
            score_seconds += time.perf_counter() - start
            path[:, held] = torch.stack([value for _, value in history.curve])
            steps = torch.tensor([step for step, _ in history.curve])
            models.save(model, profile.model, folder / _weights(side))
            train_seconds, pairs_seen = train_seconds + history.seconds, pairs_seen + history.pairs_seen
        runs.save_arrays(
            folder, s0=s0, sb=sb, s1=s1, path=path, steps=steps, half=half,
            pool=pool.to(torch.uint8), truth=truth.to(torch.uint8),
        )  # fmt: skip
        return {
            "train_seconds": train_seconds,
            "score_seconds": score_seconds,
            "pairs_seen": pairs_seen,
            "pairs_scored": len(pairs) + int(pool.sum()),
            "pool_size": int(pool.sum()),
            "pool_recall": truth[pool].sum().item() / truth.sum().item() if truth.any() else None,
        }

    return runs.run_stage((profile.family, attack_name, str(seed)), "overfit", config, work)


def _weights(side: int) -> str:
    return f"overfit-{side}.safetensors"


def scores_of(stage: Stage) -> tuple[detectors.Scores, torch.Tensor]:
    """What the detectors see of an overfit stage, and the truth (N,) bool."""
    a = stage.arrays()
    return detectors.Scores(a["s0"], a["sb"], a["s1"], a["pool"].bool()), a["truth"].bool()


def select(profile: Profile, attack_name: str, seed: int) -> Stage:
    """UBT steps 3 and 4: the unlearning set D_u, the tokens B, and how good every detector is (of a D
    without poison nothing of the kind can be said).

    Arrays: chosen (k,), score (N,), compromised (b,); outside the pool, carriers of B (c,), their
    gain (c,), and left_out (l,) of them; per token of D_u ids, count, surprise, drop (T,);
    drops (k, L), the occlusion of each token of each chosen caption.
    """
    overfitted = overfit(profile, attack_name, seed)
    attacked = attack(profile, attack_name, seed)
    config = base_config(profile, seed, (overfitted,)) | {"select": asdict(profile.select), "alike": ALIKE}

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(profile, attacked, seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        scores, _ = scores_of(overfitted)
        start = time.perf_counter()
        found = choose(tokens, scores.overfit, scores.pool, **asdict(profile.select))
        look = _second_look(load_model(profile, attacked), pairs, tokens, scores, found)
        seconds = time.perf_counter() - start
        drops = _drops(profile, overfitted, pairs.images, tokens, found.chosen)
        evidence = tk.evidence(tokens, found.chosen, drops)
        runs.save_arrays(
            folder, **look,
            chosen=found.chosen, score=found.score, compromised=found.compromised, drops=drops,
            ids=evidence.ids, count=evidence.count, surprise=evidence.surprise, drop=evidence.drop,
        )  # fmt: skip
        ranked = {name: f(scores) for name, f in detectors.FROM_SIMILARITIES.items()} | {"ubt": found.score}
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

    return runs.run_stage((profile.family, attack_name, str(seed)), "select", config, work)


def _second_look(
    model: nn.Module, pairs: Pairs, tokens: torch.Tensor, scores: detectors.Scores, found: Selection
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
    profile: Profile, overfitted: Stage, images: torch.Tensor, tokens: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """(k, L) occlusion of the chosen captions, each under the model that was not trained on it."""
    half = overfitted.arrays()["half"][chosen]
    drops = torch.zeros(len(chosen), tokens.shape[1])
    for side in SIDES:
        here = half == side
        if here.any():
            model = models.load(profile.model, overfitted.path(_weights(side)))
            drops[here] = tk.occlude(model, images[chosen[here]], tokens[chosen[here]])
    return drops
