"""A training in phases, each with a recipe and a loss of its own, told as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ubt_utils.clip.objectives import Objective
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Session, View, train_on


@dataclass(frozen=True)
class Phase:
    """What is trained for, how, and what the progress bar calls it."""

    label: str
    recipe: Recipe
    objective: Objective


def key_of(session: Session, label: str) -> tuple[object, ...]:
    """What names the draws of a phase, its order of the pairs among them."""
    return (*session.key, label)


def train(
    model: nn.Module, view: View, index: torch.Tensor, phases: Sequence[Phase], session: Session
) -> History:
    """Train in place on the pairs `index` (n,) of D, one phase after another. The optimizer starts anew in
    each; steps are counted through; each has its own draws and its own checkpoint."""
    told = History()
    for phase in phases:
        part = train_on(
            model, view, index, phase.recipe, _part_of(session, phase.label, len(told.loss)),
            phase.objective, phase.label,
        )  # fmt: skip
        _append(told, part)
    return told


def _part_of(session: Session, label: str, done: int) -> Session:
    """The session of a phase before which `done` steps were made; what these have told is not asked again."""
    watch, file = session.watch, session.checkpoint

    def later(step: int):
        return watch(done + step) if watch and (step or not done) else None

    place = file and file.with_name(f"{file.stem}-{label.replace(' ', '-')}{file.suffix}")
    return replace(session, key=key_of(session, label), checkpoint=place, watch=later)


def _append(told: History, part: History) -> None:
    """Add what a phase did to what was told before, in place."""
    done = len(told.loss)
    told.curve += [(done + step, answer) for step, answer in part.curve]
    told.loss += part.loss
    told.seconds += part.seconds
    told.pairs_seen += part.pairs_seen
    told.watched += part.watched
    told.before += part.before
