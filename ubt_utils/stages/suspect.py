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
from ubt_utils.stages.base import Run, load_model, poison_among, poisoned_pairs, truth_array
from ubt_utils.ubt import pool as pooling
from ubt_utils.ubt import select
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.looks import Seen, decided, look_after_look, more_drops
from ubt_utils.ubt.settings import looks

DETECTION = (
    "lost",
    "many",
    "lost_of_many",
    "lost_widely",
    "least",
    "voters",
    "alike",
    "sure",
    "votes",
)  # settings of selection that this stage reads


def suspect(run: Run, attacked: Stage) -> Stage:
    """What disturbed pictures, or those of other things, tell under fb; no public model is asked.

    Arrays: sb (N,), drops (K, N) in the order of the deciding look's family, −inf where they are not known,
    drop (N,) the suspicion that the pool is made of, suffers (N,) of the found words' carriers, pool (N,),
    anchors (a,), traces (a, 3, H, W) where these gave the words away, truth (N,), the last for evaluation
    only, and where it is known. Metrics: look, the number of the look that decided; found, per word its
    disturbance, surprise and the agreement lost, or how far other pictures move; asked, every word that
    it asked about, with the same and its bar; asked_elsewhere, those of another look; seconds; pairs_scored;
    pool_recall; what became of the poison."""
    profile, how = run.profile, run.profile.select

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(run, attacked)
        tokens = models.tokenize(profile.model, pairs.captions)
        model = load_model(profile, attacked)
        start = time.perf_counter()
        sb = similarity(model, pairs.images, tokens)
        seen = look_after_look(model, pairs.images, tokens, sb, looks(profile.suspect, how))
        told = decided(seen)
        found, family = told.found, told.look.family
        anchors = torch.tensor([one.anchor for one in found], dtype=torch.long)
        carriers = tk.carries(tokens, anchors)  # a few of the strong ones are poison, too
        fallen, more = more_drops(model, pairs.images, tokens, sb, carriers, family, told.drops)
        suffers = select.suffering(tokens, fallen, found, how)
        if told.look.others:
            suspicion = pooling.sufferers_first(suffers, how.alike, sb)
        else:
            suspicion = pooling.suspicion(fallen, [k for one in found for k in one.witnesses])
        pool = pooling.pool_of(suspicion, profile.suspect.pool)
        seconds = time.perf_counter() - start
        traces = {} if told.traces is None else {"traces": told.traces}
        save_arrays(
            folder, sb=sb, drops=fallen, drop=suspicion, anchors=anchors,
            suffers=suffers, pool=pool.to(torch.uint8), **truth_array(truth), **traces,
        )  # fmt: skip
        return {
            "seconds": seconds,
            "pairs_scored": len(pairs) + sum(look.scored for look in seen) + more,
            "look": seen.index(told),
            "found": [
                _told(profile.model, family, one)
                | {"lost": one.lost, "witnesses": [family[k] for k in one.witnesses]}
                for one in found
            ],
            "asked": _asked(profile.model, told),
            "asked_elsewhere": [row for one in seen if one is not told for row in _asked(profile.model, one)],
            "pool_size": int(pool.sum()),
            "pool_recall": _recall(truth, pool),
            "poisoned": poison_among(truth, torch.ones_like(pool)),
        }

    read = {name: value for name, value in asdict(how).items() if name in DETECTION}
    config = run.config() | {"suspect": asdict(profile.suspect), "detection": read}
    return run_stage(run.parts, "suspect", config, work, {"attacked": attacked}, run.modules(__name__))


def _told(name: str, family: tuple[str, ...], one: select.Candidate | select.Finding) -> dict[str, Any]:
    word = models.token_text(name, one.anchor)
    return {"word": word, "disturbance": family[one.disturbance], "surprise": one.surprise}


def _asked(name: str, seen: Seen) -> list[dict[str, Any]]:
    return [
        _told(name, seen.look.family, one.candidate)
        | {"carriers": one.pictures, "lost": one.lost, "bar": one.bar, "after": one.after}
        for one in seen.asked
    ]


def _recall(truth: torch.Tensor | None, pool: torch.Tensor) -> float | None:
    """The part of the poison that the pool holds; None where there is none, or where it is unknown."""
    if truth is None or not truth.any():
        return None
    return truth[pool].sum().item() / truth.sum().item()
