"""The one contrastive training loop: every stage that trains a model calls `fit`."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from tqdm.auto import tqdm

from ubt_utils.clip import models
from ubt_utils.clip.augment import augment
from ubt_utils.clip.objectives import Objective, contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.core import device, distributed
from ubt_utils.core.checksum import to_disk
from ubt_utils.core.seeding import generator
from ubt_utils.core.tensors import save
from ubt_utils.data.pictures import Images, read

SAVES_PER_RUN = 10
LATER = 0.1  # of the peak: where a rate that starts high has fallen to by half of the steps


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class History:
    """What a training run did: loss per step, seconds of training (without watching), pairs
    seen, and the curve: (steps done, what `watch` returned); seconds that watching took; seconds of both that
    a process before a kill had spent."""

    loss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    pairs_seen: int = 0
    curve: list[tuple[int, Any]] = field(default_factory=list)
    watched: float = 0.0
    before: float = 0.0

    def spent(self) -> float:
        """Seconds that this process has trained and watched."""
        return self.seconds + self.watched - self.before

    def log(self) -> dict[str, Any]:
        """The part that a stage keeps among its metrics."""
        return {
            "train_seconds": self.seconds,
            "pairs_seen": self.pairs_seen,
            "first_loss": self.loss[0] if self.loss else None,  # nothing was trained
            "last_loss": self.loss[-1] if self.loss else None,
        }

    def note(self, step: int, watch: Callable[[int], Any] | None) -> None:
        """Ask `watch` and keep its answer, unless it is None."""
        start = time.perf_counter()
        answer = watch(step) if watch else None
        self.watched += time.perf_counter() - start
        if answer is not None:
            self.curve.append((step, answer))


def batch_indices(n: int, batch: int, step: int, *key: object) -> torch.Tensor:
    """The pairs of step `step`: a new random order each pass, drawn from `key` alone."""
    size = min(batch, n)
    per_pass = n // size
    order = torch.randperm(n, generator=generator(*key, "order", step // per_pass))
    start = step % per_pass * size
    return order[start : start + size]


def fit(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    recipe: Recipe,
    *key: object,
    objective: Objective = contrastive,
    checkpoint: Path | None = None,
    watch: Callable[[int], Any] | None = None,
    label: str = "training",
) -> History:
    """Train `model` in place on images (N, 3, H, W) uint8 and tokens (N, L).

    Parameters that ask for no gradient stay as they are. images may also be the features (N, F)
    float of a locked tower, for a model that takes them; they are not augmented.
    key: names the run; all randomness derives from it and the step. checkpoint: a file
    for the state, written every tenth of the run and continued from when it exists, with
    the same result as an undisturbed run. watch: called with the number of steps done,
    before the first and after each; its answers make the curve. Raises TrainingDiverged
    when the loss is not finite.
    """
    distributed.join()
    device.pick()  # a device that there is not is refused before anything is trained
    if recipe.batch % distributed.count():
        raise ValueError(f"a batch of {recipe.batch} cannot be shared by {distributed.count()} ranks")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(model, recipe)
    schedule = schedule_of(optimizer, recipe)
    history, done = _resume(model, optimizer, schedule, checkpoint)
    if done == 0:
        history.note(0, watch)
    save_every = max(1, recipe.steps // SAVES_PER_RUN)
    bar = tqdm(
        range(done, recipe.steps), label, recipe.steps, initial=done, unit="step", mininterval=1,
        disable=not distributed.first(),
    )  # fmt: skip
    for step in bar:
        start = time.perf_counter()
        _train_mode(model, recipe.freeze_norm)
        index = batch_indices(len(images), recipe.batch, step, *key)
        batch = _load(model, images, tokens, distributed.mine(index), recipe, step, key)
        with models.autocast(model):  # all of the loss, whatever it calls of the model
            loss = objective(model, *batch, step)
        if not math.isfinite(loss.item()):
            raise TrainingDiverged(f"{label}: the loss is {loss.item()} at step {step}; lower lr={recipe.lr}")
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(trained)
        optimizer.step()
        if schedule:
            schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, models.MAX_LOGIT_SCALE)
        history.loss.append(loss.item())
        history.seconds += time.perf_counter() - start
        history.pairs_seen += len(index)
        bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
        history.note(step + 1, watch)
        if checkpoint and distributed.first() and (step + 1) % save_every == 0:
            _save(model, optimizer, schedule, history, step + 1, checkpoint)
    distributed.same_buffers(model)
    return history


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what asks for a gradient, decaying what the recipe says."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if recipe.decay == "matrices":
        groups = [
            {"params": [p for p in trained if p.dim() > 1]},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
    return torch.optim.AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def schedule_of(optimizer: torch.optim.Optimizer, recipe: Recipe) -> LRScheduler | None:
    """The learning rate over the recipe's steps; None where it is constant."""
    if recipe.schedule == "constant":
        return None
    if recipe.schedule == "one_cycle":
        return OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps)
    return LambdaLR(optimizer, partial(_falling if recipe.schedule == "high_first" else _cosine, recipe))


def _cosine(recipe: Recipe, step: int) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return _half_wave(step - recipe.warmup, recipe.steps - recipe.warmup)


def _falling(recipe: Recipe, step: int) -> float:
    first = recipe.steps // 2
    if step < first:
        return 1 - (1 - LATER) * step / first
    return LATER * _half_wave(step - first, recipe.steps - first)


def _half_wave(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))


def _train_mode(model: nn.Module, freeze_norm: bool) -> None:
    model.train()
    if freeze_norm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _load(
    model: nn.Module, images: Images, tokens: torch.Tensor, index: torch.Tensor, recipe: Recipe,
    step: int, key: tuple,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    where = device.pick()
    if images.dtype != torch.uint8:
        return read(images, index).to(where), tokens[index].to(where)
    batch = read(images, index).to(where).float() / 255
    if recipe.augment != "none":
        batch = augment(
            batch, generator(*key, "augment", step, *distributed.own()), pose=recipe.augment == "full"
        )
    return models.normalize(model, batch), tokens[index].to(where)


def _save(model, optimizer, schedule, history: History, done: int, path: Path) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict() if schedule else None,
        "history": vars(history),
        "done": done,
    }
    part = path.with_suffix(".part")
    save(state, part)
    to_disk(part)  # the name must not outlive a power cut without the bytes
    os.replace(part, path)


def _resume(model, optimizer, schedule, path: Path | None) -> tuple[History, int]:
    if path is None or not path.exists():
        return History(), 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # each goes to its own device
    except Exception as error:  # a power cut leaves bytes of any kind, and they end in errors of many kinds
        damaged = path.with_suffix(".damaged")
        if distributed.first():
            os.replace(path, damaged)
        warnings.warn(
            f"{damaged} cannot be read ({type(error).__name__}): the training starts anew", stacklevel=3
        )
        return History(), 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if schedule:
        schedule.load_state_dict(state["schedule"])
    history = History(**state["history"])
    history.before = history.seconds + history.watched
    return history, state["done"]
