"""A training step of profile photos, with the kit's depthwise convolutions and with torch's.

    python benchmarks/depthwise.py               # prints the table and records it

A step is all of it, from stored pictures to moved weights; the locked stages remember theirs, as they do
after the first pass. The two take turns, some steps a round, after two that warm up; the ratio is the
median over the rounds. `apart` is the largest difference of a weight's gradient after one step from the same
model, over the largest entry of that gradient, among the convolutions that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
import tyro
from step import timed
from torch import nn

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.training import fit
from ubt_utils.core import records
from ubt_utils.data.pairs import Pairs
from ubt_utils.kernels.depthwise import WideDepthwise

WAYS = ("kit", "torch")


@contextmanager
def taken(way: str) -> Iterator[None]:
    """The depthwise convolutions of one way."""
    forward = WideDepthwise.forward if way == "kit" else nn.Conv2d.forward
    with patch.object(WideDepthwise, "forward", forward):
        yield


def gradients(run: stages.Chain, pairs: Pairs, tokens: torch.Tensor, way: str) -> list[torch.Tensor]:
    """Those of the convolutions that differ."""
    model = run.model(run.pretrained).eval()
    images = models.normalize(model, pairs.images.float() / 255)
    with taken(way):
        contrastive(model, images, tokens, 0).backward()
    return [m.weight.grad for m in model.modules() if isinstance(m, WideDepthwise)]


def main(
    steps: int = 5, rounds: int = 7, threads: int = 0,  # 0: as many as torch takes
) -> None:  # fmt: skip
    if threads:
        torch.set_num_threads(threads)
    profile = profiles.get("photos")
    run = stages.chain(profile, stages.NONE, 0)
    batch = profile.finetune.batch
    pairs = run.wild[0].take(range(batch))
    tokens = models.tokenize(profile.model, pairs.captions)
    own, plain = (gradients(run, pairs, tokens, way) for way in WAYS)
    apart = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(own, plain, strict=True))
    recipe = replace(profile.finetune, steps=steps, schedule="constant")

    def spent(way: str, model: nn.Module, turn: int) -> float:
        with taken(way):
            return fit(model, pairs.images, tokens, recipe, max(turn, 0), label=way).seconds / steps

    found = {
        "profile": profile.name, "batch": batch, "steps": steps, "rounds": rounds,
        **timed(run, WAYS, spent, rounds, warm=2), "apart": apart,
    }  # fmt: skip
    records.write_benchmark("depthwise", found)


if __name__ == "__main__":
    tyro.cli(main)
