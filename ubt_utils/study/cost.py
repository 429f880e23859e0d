"""What a run will cost before it is started: pairs, FLOPs, seconds, memory and disk of every stage.

Seconds on the device at hand come from a short measured run of the profile's own model; those of other
devices from their peak rate and an assumed part of it that training reaches.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import open_clip
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from ubt_utils.clip import models, towers
from ubt_utils.clip.augment import augment
from ubt_utils.clip.objectives import contrastive
from ubt_utils.core import device
from ubt_utils.data.shards import ShardSets
from ubt_utils.evaluate import measure as evaluation
from ubt_utils.profiles import Profile
from ubt_utils.stages.base import wild
from ubt_utils.stages.defend import MARKS, held_out_of

BACKWARD = 2.0  # a backward pass, in forward passes
REACHED = 0.35  # assumed part of the peak that training reaches
PEAK = {"A100": 312e12, "H200": 989e12}  # bf16 FLOP/s without sparsity, from NVIDIA's data sheets
MANY = 16
STATE = 16  # bytes a weight while it trains: itself, its gradient, two moments; single precision
PROBE = 2e11  # FLOPs of a measured step, at most
IMAGENET_TEST = 50_000  # photos of its validation set


class Work(NamedTuple):
    """What a stage does: pairs trained (forward and backward), pairs scored (forward)."""

    stage: str
    trained: int
    scored: int


@dataclass(frozen=True)
class Rates:
    """Measured seconds: to train a pair, to score a pair."""

    trained: float
    scored: float


def works(profile: Profile, attack: str, pairs: int, tested: int, few: int) -> list[Work]:
    """The stages of one run with UBT. pairs: in D. tested: pictures of the zero-shot test; few: those of a
    curve's point. Both are scored clean and stamped: those of the test under f0, fb and the defended model.
    What `suspect` asks of single words and their strong pairs is left out, and so are further looks; traces
    count as one more look at D, which is about what they cost on photos. A pretraining whose image tower is
    locked counts as a whole one: an upper bound."""
    pool, weak = (round(part * pairs) for part in (profile.suspect.pool, profile.suspect.weak))
    overfit, unlearn, victim = profile.overfit.recipe, profile.unlearn, profile.recipe(attack)
    read = (profile.overfit.reads + 2) * pool  # along the way and at the end, each half on its side
    curve = (len(MARKS) + 2) * (2 * few + held_out_of(pairs))
    trained = None if profile.weights else profile.pretrain
    public = trained.steps * trained.batch if trained else 0
    looked = pairs if profile.suspect.others_first else len(profile.suspect.family) * weak
    return [
        Work("pretrain", public, 0),
        Work("attack", victim.steps * victim.batch, 0),
        Work("suspect", 0, pairs + looked),
        Work("overfit", 2 * overfit.steps * min(overfit.batch, pool // 2), pairs + read),
        Work("select", 0, profile.select.top),
        Work("unlearn", unlearn.recipe.steps * unlearn.pairs(profile.select.top), curve),
        Work("evaluate", 0, 3 * 2 * tested),
    ]


def sizes(profile: Profile, seed: int = 0) -> tuple[int, int, int]:
    """Pairs in D, pictures of the test, and those of a curve's point; what is published where the data need
    not lie here yet."""
    if isinstance(profile.sets, ShardSets):
        return profile.sets.limit, IMAGENET_TEST, evaluation.FEW
    task = evaluation.task_of(profile.sets)
    few = len(evaluation.some_of(profile, evaluation.FEW).labels)
    return len(wild(profile.sets, seed)[0]), len(task.labels), few


def flops(name: str) -> float:
    """FLOPs of one pair's forward pass through a model, counted on shapes alone."""
    model = models.create(name, 0).to("meta").eval()
    side = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    images = torch.empty(1, 3, side, side, device="meta")
    tokens = torch.zeros(1, model.context_length, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(images, tokens)
    return float(counted.get_total_flops())


def measure(profile: Profile) -> Rates:
    """Time some steps of training and of scoring of the profile's model, on made-up pairs of its size; at
    most `PROBE` FLOPs a step, so that a large model on a small device is asked for less than its batch."""
    model = towers.lock(models.create(profile.model, 0), profile.locked)
    where, recipe, each = device.pick(), profile.finetune, flops(profile.model)
    batch = max(4, min(recipe.batch, int(PROBE / ((1 + BACKWARD) * each))))
    draw = torch.Generator().manual_seed(0)
    shape = (batch, 3, profile.sets.size, profile.sets.size)
    images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    tokens = models.tokenize(profile.model, [f"a photo of a thing, number {i}" for i in range(batch)]).to(
        where
    )
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-6)

    def train() -> int:
        model.train()
        part = images.to(where).float() / 255
        if recipe.augment != "none":
            part = augment(part, draw, pose=recipe.augment == "full")
        with models.autocast(model):
            loss = contrastive(model, models.normalize(model, part), tokens, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return batch

    def score() -> int:
        models.embed_images(model, images)
        models.embed_tokens(model, tokens)
        return batch

    return Rates(_seconds_each(train), _seconds_each(score))


def _seconds_each(work, turns: int = 3) -> float:
    """Median seconds a pair, after one turn that warms up."""
    work()
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        count = work()
        if device.pick().type == "cuda":
            torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / count)
    return sorted(found)[turns // 2]


def plan(profile: Profile, attack: str = "badnets", seed: int = 0) -> pd.DataFrame:
    """Index stage: pairs trained and scored, TFLOPs, and seconds here, on one A100, one H200, 16 H200.

    Raises ValueError for an unknown attack.
    """
    profile.trigger(attack)
    rates, each = measure(profile), flops(profile.model)
    pairs, tested, few = sizes(profile, seed)
    rows = {}
    for stage, trained, scored in works(profile, attack, pairs, tested, few):
        total = each * ((1 + BACKWARD) * trained + scored)
        seconds = {name: total / (peak * REACHED) for name, peak in PEAK.items()}
        rows[stage] = {
            "pairs trained": trained,
            "pairs scored": scored,
            "TFLOPs": total / 1e12,
            "s here": rates.trained * trained + rates.scored * scored,
            **{f"s {name}": spent for name, spent in seconds.items()},
            f"s {MANY} H200": seconds["H200"] / MANY,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stage")


def memory(profile: Profile, pairs: int) -> dict[str, int]:
    """Bytes: weights in training, one batch of pictures, D's pictures, D's scores and embeddings, and what a
    run leaves on disk."""
    model = models.create(profile.model, 0)
    weights = sum(p.numel() for p in model.parameters())
    picture = 3 * profile.sets.size**2
    width = model.text_projection.shape[1]
    kept = {"weights in training": STATE * weights, "a batch": 4 * picture * profile.finetune.batch}
    kept |= {"pictures of D": picture * pairs, "scores and embeddings of D": 4 * pairs * (3 + 2 * width)}
    return kept | {"models on disk": 5 * 4 * weights}  # f0, fb, two overfit ones, the defended one
