"""How an answer is checked: on three cases against the kit's own function, and against known mistakes.

A mistake is a function, too: what somebody writes who has not understood one thing. An answer that gives what
a mistake gives, on all cases, gets the hint of that mistake. Hints, like all prose, are in the exercise's
Markdown file, by the name of the mistake.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch

from ubt_utils.attacks.gate import BackdoorDidNotTake

CLOSE = 1e-4  # of a number that a function returns
ROUNDED = 0.02  # of a number that a reader types
Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Function:
    """An exercise whose answer is a function. right: the reference. cases: makes the arguments of its three
    cases, anew each time. mistakes: by the name of their hint."""

    right: Callable[..., Any]
    cases: Callable[[], Sequence[Arguments]]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def judged(self, answer: Any, hints: Mapping[str, str]) -> str:
        """ "right", or what is wrong."""
        if not callable(answer):
            return f"a function is asked for, got {type(answer).__name__}"
        given = []
        for number, (mine, theirs) in enumerate(zip(self.cases(), self.cases(), strict=True), 1):
            before = copy.deepcopy(mine)
            try:
                given.append(answer(*mine))
            except NotImplementedError:
                return "not begun"
            except Exception as error:  # a reader's code may raise anything
                return f"case {number} raises {type(error).__name__}: {error}"
            if not same(mine, before):
                return f"case {number} changes its input"
            if not same(given[-1], expected := self.right(*theirs)):
                return self._wrong(given, number, expected, answer, hints)
        return "right"

    def _wrong(
        self, given: list[Any], number: int, expected: Any, answer: Any, hints: Mapping[str, str]
    ) -> str:
        every = [*given, *(_tried(answer, case) for case in self.cases()[number:])]
        for name, mistake in self.mistakes.items():
            if same([_tried(mistake, case) for case in self.cases()], every):
                return f"not yet. Hint: {hints[name]}"
        return f"not yet. Case {number} gives {_shown(given[-1])}, right is {_shown(expected)}"


@dataclass(frozen=True)
class Value:
    """An exercise whose answer is a number or a word, computed from the kit itself, so that it stays right
    when a profile changes."""

    compute: Callable[[], Any]

    def judged(self, answer: Any, hints: Mapping[str, str]) -> str:
        """ "right", or the exercise's one hint."""
        right = self.compute()
        if isinstance(right, str):
            good = isinstance(answer, str) and answer.strip().lower() == right
        else:
            good = _number(answer) and math.isclose(answer, right, rel_tol=ROUNDED, abs_tol=1e-9)
        return "right" if good else f"not yet. Hint: {next(iter(hints.values()))}"


@dataclass(frozen=True)
class Game:
    """An exercise that is played: the answer is a function that plays and returns a table of rates."""

    def judged(self, answer: Any, hints: Mapping[str, str]) -> str:
        """The score, or why there is none."""
        try:
            scores = answer()
        except NotImplementedError:
            return "not begun"
        except BackdoorDidNotTake:
            return f"not yet. Hint: {next(iter(hints.values()))}"
        rows = scores.iterrows()
        return "; ".join(f"{who}: ASR {row.asr:.1%}, CA {row.clean_accuracy:.1%}" for who, row in rows)


def check(name: str, answer: Any) -> str:
    """Say whether `answer` to exercise `name` is right, with a hint if not; None is no answer yet. KeyError
    lists the names."""
    from ubt_utils.report.exercises.pages import page  # so that the tasks can be looked at without a checkout
    from ubt_utils.report.exercises.registry import TASKS

    if name not in TASKS:
        raise KeyError(f"no exercise {name!r}; known: {', '.join(TASKS)}")
    if answer is None:
        return f"{name}: no answer yet"
    return f"{name}: {TASKS[name].judged(answer, page(name).hints)}"


def same(one: Any, other: Any) -> bool:
    """Whether two results are alike: shapes and kinds equal, numbers close, a truth value no number."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.is_floating_point() != other.is_floating_point():
            return one.dim() == other.dim() == 0 and _alike(one.item(), other.item())
        return torch.allclose(one.double(), other.double(), rtol=CLOSE, atol=1e-6, equal_nan=True)
    if isinstance(one, torch.Tensor) and one.dim() == 0:
        return same(one.item(), other)
    if isinstance(other, torch.Tensor) and other.dim() == 0:
        return same(one, other.item())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return _alike(one, other)


def _alike(one: Any, other: Any) -> bool:
    if _number(one) and _number(other):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-6)
    return type(one) is type(other) and (one is other or bool(one == other))


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _tried(function: Callable[..., Any], case: Arguments) -> Any:
    """What a function gives, or the kind of error that it raises."""
    try:
        return function(*case)
    except Exception as error:
        return type(error)


def _shown(value: Any) -> str:
    """A result in a few characters."""
    if isinstance(value, torch.Tensor) and value.numel() > 8:
        return f"a tensor of shape {tuple(value.shape)}, mean {value.double().mean():.4g}"
    return f"{value.tolist() if isinstance(value, torch.Tensor) else value}"
