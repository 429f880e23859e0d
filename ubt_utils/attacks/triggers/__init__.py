"""The registry: every trigger of this folder, found by name."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ubt_utils.attacks.base import Trigger


def named(base: type[Trigger]) -> list[type[Trigger]]:
    """`base` and everything below it that has a name of its own."""
    below = [found for kind in base.__subclasses__() for found in named(kind)]
    return ([base] if "name" in vars(base) else []) + below


for _module in sorted(m.name for m in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

TRIGGERS: dict[str, type[Trigger]] = {
    kind.name: kind
    for kind in sorted(named(Trigger), key=lambda kind: (kind.__module__, kind.name))
    if kind.__module__.startswith(__name__)
}


def get(name: str, **parameters: Any) -> Trigger:
    """The trigger `name` with its default parameters, or with those given.

    Raises ValueError for an unknown name or parameter.
    """
    if name not in TRIGGERS:
        raise ValueError(f"unknown attack {name!r}; known: {', '.join(TRIGGERS)}")
    known = [field.name for field in fields(TRIGGERS[name])]
    if extra := set(parameters) - set(known):
        raise ValueError(f"{name} has no parameter {sorted(extra)}; known: {', '.join(known)}")
    return TRIGGERS[name](**parameters)
