"""What the playground shows of one run: its models, its trigger, and some drawings of the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.core.seeding import generator
from ubt_utils.data.emoji import OPENLY_LICENSED, EmojiSets
from ubt_utils.data.zero_shot import ZeroShot
from ubt_utils.evaluate import measure
from ubt_utils.play.export import Reader, halved, onnx_of
from ubt_utils.stages import Chain
from ubt_utils.ubt.settings import UBT

SHOWN, REAL = 24, 2  # drawings on the page; of them, of the target
RATES = ("clean_accuracy", "asr")


@dataclass(frozen=True)
class Contents:
    """models: ONNX by name: f0, fb, fu. rates: what the test says of each, as fractions. images: (n, 3, H, W)
    uint8 of the test; truth: (n,) what they show, as indices of `classes`; right: how many of them fb reads
    rightly. black, white: (3, H, W) uint8, a black and a white picture with the trigger, from which follows
    what it does to any other.
    """

    models: Mapping[str, bytes]
    rates: Mapping[str, Mapping[str, float]]
    classes: tuple[str, ...]
    target: int
    images: torch.Tensor
    truth: torch.Tensor
    right: int
    black: torch.Tensor
    white: torch.Tensor


def contents_of(run: Chain) -> Contents:
    """All of it; makes the stages of the run that are not there. ValueError where the drawings may not be
    shown, and for a trigger that is more than a fixed change of each pixel."""
    sets = run.profile.sets
    if not isinstance(sets, EmojiSets) or sets.test not in OPENLY_LICENSED:
        raise ValueError(f"profile {run.profile.name} has no test pictures that a page may show: take mini")
    run.needs_poison()
    task = measure.task_of(sets)
    assert run.trigger is not None  # needs_poison has refused the clean twin
    black, white = ends(run.trigger, task.images[:SHOWN])
    held = {
        name: (model := run.model(stage), measure.head_of(model, run.profile)) for name, stage in _stages(run)
    }
    chosen, right = _chosen(task, measure.predict(*held["fb"], task.images), run.seed)
    size = task.images.shape[-1]
    packed = {name: halved(onnx_of(Reader(*pair), size)).SerializeToString() for name, pair in held.items()}
    return Contents(
        packed, _rates(run), task.classes, task.target, task.images[chosen], task.labels[chosen], right,
        black, white,
    )  # fmt: skip


def _stages(run: Chain):
    return {"f0": run.pretrained, "fb": run.attacked, "fu": run.defended(UBT)}.items()


def _rates(run: Chain) -> dict[str, dict[str, float]]:
    """Clean accuracy and ASR of each model."""
    before, after = run.evaluated().metrics, run.evaluated(UBT).metrics
    asked: dict[str, tuple[Mapping[str, Any], str]] = {
        "f0": (before, "public_"),
        "fb": (before, ""),
        "fu": (after, ""),
    }
    return {name: {rate: told[prefix + rate] for rate in RATES} for name, (told, prefix) in asked.items()}


def ends(trigger: Trigger, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A black and a white picture (3, H, W) uint8, stamped; what lies between them, the trigger maps to what
    lies between these. ValueError where it does not so with `images` (B, 3, H, W) uint8."""
    bounds = torch.stack([torch.zeros_like(images[0]), torch.full_like(images[0], 255)])
    black, white = stamp_bytes(trigger, bounds)
    between = black + images.double() / 255 * (white.double() - black)
    if (between - stamp_bytes(trigger, images)).abs().max() > 1:  # of 255: both are rounded
        raise ValueError(f"{trigger.name} is more than a fixed change of each pixel: take badnets or blended")
    return black, white


def _chosen(task: ZeroShot, said: torch.Tensor, seed: int) -> tuple[torch.Tensor, int]:
    """Indices of the drawings that are shown, at most one of a class but for the target, in random order,
    those first that the model reads rightly; and how many of them these are. said: (N,) its answers."""
    order = torch.randperm(len(said), generator=generator(seed, "playground"))
    right = said == task.labels
    order = torch.cat([order[right[order]], order[~right[order]]])
    real = task.labels[order] == task.target
    others = {int(task.labels[i]): int(i) for i in order[~real].flip(0)}  # of each class the first
    kept = [i for i in order[~real].tolist() if others[int(task.labels[i])] == i][: SHOWN - REAL]
    chosen = torch.tensor([*kept, *order[real][:REAL].tolist()])
    return chosen, int(right[chosen].sum())
