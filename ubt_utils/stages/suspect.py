"""Stage suspect: UBT step 1 and the vote of step 3. Is there a backdoor, and which pairs suffer like
poison?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core.store import Stage, run_stage, save_arrays
from ubt_utils.data.pictures import take
from ubt_utils.stages.base import Run, load_model, poisoned_pairs
from ubt_utils.ubt import pool as pooling
from ubt_utils.ubt import select
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.disturb import agreement, drops

DETECTION = ("lost", "many", "lost_of_many", "least", "voters", "sure", "votes")  # settings of selection that this stage reads


def suspect(run: Run, attacked: Stage) -> Stage:
    """What disturbed pictures tell under fb; no public model is asked.

    Arrays: sb (N,), drops (K, N) in the order of the family, −inf where they are not known, drop (N,) the
    suspicion that the pool is made of, suffers (N,) of the found words' carriers, pool (N,), anchors (a,),
    truth (N,), the last for evaluation only. Metrics: found, per word its disturbance, surprise and the
    agreement lost; asked, every word that was looked at, with the same; seconds; pairs_scored; pool_recall;
    what became of the poison."""
    profile, how, family = run.profile, run.profile.select, run.profile.suspect.family

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(profile, attacked, run.seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        model, asked, found = load_model(profile, attacked), [], []
        start = time.perf_counter()
        sb = similarity(model, pairs.images, tokens)
        weak = pooling.weakest(sb, profile.suspect.weak)
        fallen = drops(model, pairs.images, tokens, sb, weak, family)

        def lost(one: select.Candidate) -> float:
            pictures = take(pairs.images, one.carriers[: select.PICTURES])[:]
            value = agreement(model, pictures) - agreement(model, pictures, family[one.disturbance])
            told = _told(profile.model, family, one)
            asked.append({**told, "carriers": len(pictures), "lost": value, "after": len(found)})
            return value

        for one in select.findings(tokens, fallen, lost, how):
            found.append(one)  # `lost` counts them
        anchors = torch.tensor([one.anchor for one in found], dtype=torch.long)
        strong = tk.carries(tokens, anchors) & ~weak  # a few of their carriers are poison, too
        fallen = fallen.maximum(drops(model, pairs.images, tokens, sb, strong, family))
        suffers = select.suffering(tokens, fallen, found, how)
        suspicion = pooling.suspicion(fallen, [k for one in found for k in one.witnesses])
        pool = pooling.pool_of(suspicion, profile.suspect.pool)
        seconds = time.perf_counter() - start
        save_arrays(
            folder, sb=sb, drops=fallen, drop=suspicion, anchors=anchors,
            suffers=suffers, pool=pool.to(torch.uint8), truth=truth.to(torch.uint8),
        )  # fmt: skip
        return {
            "seconds": seconds,
            "pairs_scored": len(pairs)
            + len(family) * int((weak | strong).sum())
            + sum(2 * one["carriers"] for one in asked),
            "found": [
                _told(profile.model, family, one)
                | {"lost": one.lost, "witnesses": [family[k] for k in one.witnesses]}
                for one in found
            ],
            "asked": asked,
            "pool_size": int(pool.sum()),
            "pool_recall": truth[pool].sum().item() / truth.sum().item() if truth.any() else None,
            "poisoned": int(truth.sum()),
        }

    read = {name: value for name, value in asdict(how).items() if name in DETECTION}
    config = run.config() | {"suspect": asdict(profile.suspect), "detection": read}
    return run_stage(run.parts, "suspect", config, work, {"attacked": attacked}, run.modules(__name__))


def _told(name: str, family: tuple[str, ...], one: select.Candidate | select.Finding) -> dict[str, Any]:
    word = models.token_text(name, one.anchor)
    return {"word": word, "disturbance": family[one.disturbance], "surprise": one.surprise}
