"""Whether two results are alike, and where they first differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch

CLOSE = 1e-4  # of a number that a function returns
TINY = 1e-6


def same(one: Any, other: Any) -> bool:
    """Whether two results are alike: shapes and kinds equal, numbers close, a truth value no number."""
    return not difference(one, other)


def difference(given: Any, right: Any, place: str = "") -> str:
    """Where a result first differs from the right one, said after "gives"; "" where they are alike. place:
    the part of the result that is looked at, such as [2]."""
    given, right = _plain(given), _plain(right)
    if isinstance(right, torch.Tensor) and isinstance(given, torch.Tensor):
        return _of_tensors(given, right, place)
    if isinstance(right, Mapping) and isinstance(given, Mapping):
        if set(given) != set(right):
            return f"the keys {sorted(map(str, given))}{_at(place)}, right is {sorted(map(str, right))}"
        return _of_parts(given, right, place)
    if isinstance(right, (list, tuple)) and isinstance(given, (list, tuple)):
        if len(given) != len(right):
            return f"{len(given)} entries{_at(place)}, right is {len(right)}"
        return _of_parts(dict(enumerate(given)), dict(enumerate(right)), place)
    if _alike(given, right):
        return ""
    if kind(given) != kind(right):
        return f"{_said(given)}{_at(place)}, right is {_said(right)}"
    return f"{_number(given)}{_at(place)}, right is {_number(right)}"


def number(value: Any) -> bool:
    """Whether it is a number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def kind(value: Any) -> str:
    """What a result is, in a word: all numbers are of one kind."""
    return "number" if number(value) else type(value).__name__


def _plain(value: Any) -> Any:
    """A tensor without dimensions as the number that it holds."""
    return value.item() if isinstance(value, torch.Tensor) and value.dim() == 0 else value


def _of_tensors(given: torch.Tensor, right: torch.Tensor, place: str) -> str:
    if given.shape != right.shape:
        return f"a tensor of shape {tuple(given.shape)}{_at(place)}, right is {tuple(right.shape)}"
    if given.is_floating_point() != right.is_floating_point():
        return f"a tensor of {_dtype(given)}{_at(place)}, right is {_dtype(right)}"
    apart = ~torch.isclose(given.double(), right.double(), rtol=CLOSE, atol=TINY, equal_nan=True)
    if not apart.any():
        return ""
    first = tuple(apart.nonzero()[0].tolist())
    part = f"{place}{list(first)}"
    return (
        f"{_number(given[first].item())}{_at(part)}, right is {_number(right[first].item())} "
        f"({int(apart.sum())} of {apart.numel()} entries are off)"
    )


def _of_parts(given: Mapping[Any, Any], right: Mapping[Any, Any], place: str) -> str:
    found = (difference(given[key], right[key], f"{place}[{key!r}]") for key in right)
    return next(filter(None, found), "")


def _alike(one: Any, other: Any) -> bool:
    if number(one) and number(other):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=TINY)
    return type(one) is type(other) and (one is other or bool(one == other))


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{value!r}"


def _said(value: Any) -> str:
    """A value by its kind, where that is what differs."""
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if number(value) or isinstance(value, (bool, str)):
        return f"{_number(value)} ({kind(value)})"
    return f"a {kind(value)}"
