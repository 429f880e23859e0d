"""The capstone of the course: a reader's own trigger and defense, played against UBT with an unseen seed."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd
import torch
from torch import nn

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.baselines import defenses
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core.records import NONE
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.chain import chain
from ubt_utils.ubt.defense import Defense, Session, View

OWN = "own"
USED = 100  # seeds below are those of the study
RATES = ("asr", "clean_accuracy", "robust_accuracy", "target_recall")

Stamp = Callable[[torch.Tensor], torch.Tensor]  # (B, 3, H, W) float [0, 1] → the same
Defend = Callable[[nn.Module, View, Recipe], History | None]  # changes the model in place
_given: dict[str, Callable] = {}  # by the digest of its source, which the keys of stages hold


@dataclass(frozen=True)
class Own(Trigger):
    """A function of the reader's. code: the digest of its source, so that another one is another trigger."""

    code: str = ""

    name: ClassVar[str] = OWN
    strength: ClassVar[str] = ""
    source: ClassVar[str] = "the reader"
    published: ClassVar[str] = "–"
    rule: ClassVar[str] = "–"

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        return _given[self.code](images)


def _defend(model: nn.Module, view: View, recipe: Recipe, session: Session, code: str) -> History:
    return _given[code](model, view, recipe) or History()


def play(
    profile: Profile, trigger: Stamp | None = None, defense: Defend | None = None, seed: int | None = None
) -> pd.DataFrame:
    """One game: the rates (ASR, clean and robust accuracy, target recall, fractions) of the victim,
    undefended, after UBT, and after the reader's defense where there is one. trigger: BadNets where there is
    none. seed: drawn anew where none is given.

    Raises BackdoorDidNotTake for a trigger that plants nothing, and ValueError for one that changes shapes.
    """
    drawn = USED + secrets.randbelow(2**31) if seed is None else seed
    if trigger is not None:
        _tried(trigger, profile.sets.size)
        profile = replace(profile, triggers={**profile.triggers, OWN: {"code": _noted(trigger)}})
    with _entered(trigger, defense) as attack:
        run = chain(profile, attack, drawn)
        names = (NONE, "ubt", *([OWN] if defense else ()))
        found = {name: run.evaluated(name).metrics for name in names}
    table = pd.DataFrame(found).T.reindex(columns=RATES).astype(float)
    return table.rename(index={NONE: "undefended", OWN: "your defense"})


def _tried(trigger: Stamp, size: int) -> None:
    gray = torch.full((2, 3, size, size), 0.5)
    if (shape := trigger(gray).shape) != gray.shape:
        raise ValueError(
            f"a trigger keeps the shape of its pictures: got {tuple(shape)} of {tuple(gray.shape)}"
        )


@contextmanager
def _entered(trigger: Stamp | None, defense: Defend | None) -> Iterator[str]:
    """The name of the attack, while the reader's functions are in the registries."""
    if trigger is not None:
        triggers.TRIGGERS[OWN] = Own
    if defense is not None:
        sees = ("D_safe", "detection", "overfit", "f0")
        options = {"code": _noted(defense)}
        defenses.DEFENSES[OWN] = Defense(OWN, _defend, sees, "the reader", options=options)
    try:
        yield OWN if trigger is not None else "badnets"
    finally:
        triggers.TRIGGERS.pop(OWN, None)
        defenses.DEFENSES.pop(OWN, None)


def _noted(function: Callable) -> str:
    """The digest of a function's source, by which it is found again."""
    digest = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]
    _given[digest] = function
    return digest
