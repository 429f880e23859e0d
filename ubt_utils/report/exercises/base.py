"""How an answer is checked: on cases against the kit's own function, and against known mistakes.

A mistake is a function, too: what somebody writes who has not understood one thing. An answer that gives what
a mistake gives, on all cases, gets the hint of that mistake. Hints, like all prose, are in the exercise's
Markdown file, by the name of the mistake. Autograd is off in an answer: what is to be derived is derived.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.report.exercises.compare import difference, number, same

ROUNDED = 0.02  # of a number that a reader types
Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Function:
    """An exercise whose answer is a function. right: the reference. cases: makes the arguments of its cases,
    three or more, anew each time. mistakes: by the name of their hint."""

    right: Callable[..., Any]
    cases: Callable[[], Sequence[Arguments]]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def judged(self, answer: Any, hints: Mapping[str, str]) -> str:
        """ "right", or what is wrong."""
        if not callable(answer):
            return f"a function is asked for, got {type(answer).__name__}"
        given = []
        for place, (mine, theirs) in enumerate(zip(self.cases(), self.cases(), strict=True), 1):
            before = copy.deepcopy(mine)
            try:
                with saved_tensors_hooks(_refused, _refused):
                    given.append(answer(*mine))
            except NotImplementedError:
                return "not begun"
            except Exception as error:  # a reader's code may raise anything
                return f"case {place} raises {type(error).__name__}: {error}"
            if not same(mine, before):
                return f"case {place} changes its input"
            if off := difference(given[-1], self.right(*theirs)):
                return self._wrong(given, place, off, answer, hints)
        return "right"

    def _wrong(self, given: list[Any], place: int, off: str, answer: Any, hints: Mapping[str, str]) -> str:
        every = [*given, *(_tried(answer, case) for case in self.cases()[place:])]
        for name, mistake in self.mistakes.items():
            if same([_tried(mistake, case) for case in self.cases()], every):
                return f"not yet. Hint: {hints[name]}"
        return f"not yet. Case {place} gives {off}"


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
            good = number(answer) and math.isclose(answer, right, rel_tol=ROUNDED, abs_tol=1e-9)
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


def _refused(saved: Tensor) -> Tensor:
    """What autograd gets when it would keep a tensor for its way back; torch.func refuses any hook."""
    raise RuntimeError("autograd is off here, derive it by hand")


def _tried(function: Callable[..., Any], case: Arguments) -> Any:
    """What a function gives, or the kind of error that it raises."""
    try:
        return function(*case)
    except Exception as error:
        return type(error)
