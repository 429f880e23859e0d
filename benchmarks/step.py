"""A training step of profile mini, the kit's way against the former one: time, and what either ends in.

    python benchmarks/step.py                    # prints the table and records it
    python benchmarks/step.py --rounds 3 --train 0

The kit: bf16 on a CPU with instructions for it, captions read no further than they go, attention written
out. Before: single precision, open_clip's own forward pass over all places of each caption, its own loss. A
step is all of it, from stored pictures to moved weights. The two take turns, some steps a round, after a
round that warms up; the ratio is the median over the rounds. Then both train from the same f0 on the same
clean D, once a seed, and are measured alike on the validation vendor: the largest difference of clean
accuracy is `apart`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import open_clip
import torch
import tyro
from torch import nn

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History, fit
from ubt_utils.core import records
from ubt_utils.data.pairs import Pairs
from ubt_utils.evaluate import measure


def former(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
    """CLIP's loss as open_clip has it: normalized images (B, 3, H, W), tokens (B, L)."""
    return open_clip.ClipLoss()(*model(images, tokens)[:3])


WAYS = {"kit": (contrastive, "mixed"), "former": (former, "single")}  # the loss and the precision


def learn(
    way: str, model: nn.Module, pairs: Pairs, tokens: torch.Tensor, recipe: Recipe, seed: int
) -> History:
    """Train in place one way."""
    objective, precision = WAYS[way]
    with patch.dict(os.environ, UBT_PRECISION=precision):
        return fit(model, pairs.images, tokens, recipe, seed, "step", objective=objective, label=way)


def timed(
    run: stages.Chain,
    ways: Sequence[str],
    spent: Callable[[str, nn.Module, int], float],
    rounds: int,
    warm: int,
) -> dict[str, object]:
    """Seconds a step of two ways, the kit's first, round by round after `warm` more, and the median of their
    ratios. spent: those of a way's model in a turn, which is below 0 while it warms up."""
    sides = {way: run.model(run.pretrained) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(-warm, rounds):
        for way, model in sides.items():
            found = spent(way, model, turn)
            if turn >= 0:
                seconds[way].append(found)
    ratios = [ours / theirs for ours, theirs in zip(*seconds.values(), strict=True)]
    middle = {way: statistics.median(values) for way, values in seconds.items()}
    return {"seconds_a_step": middle, "ratios": ratios, "time_ratio": statistics.median(ratios)}


def ended(
    run: stages.Chain, pairs: Pairs, tokens: torch.Tensor, steps: int, seeds: tuple[int, ...]
) -> dict[str, list[float]]:
    """Clean accuracy of both ways, a number a seed, on the pictures that settings are chosen on."""
    recipe = replace(run.profile.finetune, steps=steps)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in seeds:
        for way, values in found.items():
            model = run.model(run.pretrained)
            learn(way, model, pairs, tokens, recipe, seed)
            measured = measure.full(model, run.profile, None, split=measure.VALIDATION)
            values.append(measured["clean_accuracy"])
    return found


def main(
    steps: int = 10,
    rounds: int = 9,
    train: int = 300,  # steps of each training to its end; 0: none
    seeds: tuple[int, ...] = (0, 1),
    threads: int = 0,  # 0: as many as torch takes
) -> None:
    if threads:
        torch.set_num_threads(threads)
    profile = profiles.get("mini")
    run = stages.chain(profile, stages.NONE, 0)
    pairs, _ = run.wild
    tokens = models.tokenize(profile.model, pairs.captions)
    recipe = replace(profile.finetune, steps=steps, schedule="constant")

    def spent(way: str, model: nn.Module, turn: int) -> float:
        return learn(way, model, pairs, tokens, recipe, turn).seconds / steps

    found = {
        "profile": profile.name, "batch": recipe.batch, "steps": steps, "rounds": rounds,
        **timed(run, tuple(WAYS), spent, rounds, warm=1),
    }  # fmt: skip
    if train:
        accuracy = ended(run, pairs, tokens, train, seeds)
        apart = [abs(one - other) for one, other in zip(*accuracy.values(), strict=True)]
        found |= {"trained": train, "seeds": seeds, "clean_accuracy": accuracy, "apart": max(apart)}
    records.write_benchmark("step", found)


if __name__ == "__main__":
    tyro.cli(main)
