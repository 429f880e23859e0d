"""Attacks: triggers by name, poisoning with a manifest, and the gate."""

from __future__ import annotations

from typing import Any

from ubt_utils.attacks.badnets import BadNets
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.blended import Blended
from ubt_utils.attacks.sig import Sig

TRIGGERS: dict[str, type[Trigger]] = {t.name: t for t in (BadNets, Blended, Sig)}


def get(name: str, **parameters: Any) -> Trigger:
    """The trigger `name` with its default parameters, or with those given.

    Raises ValueError for an unknown name or parameter.
    """
    if name not in TRIGGERS:
        raise ValueError(f"unknown attack {name!r}; known: {', '.join(TRIGGERS)}")
    known = TRIGGERS[name].__dataclass_fields__
    if extra := set(parameters) - set(known):
        raise ValueError(f"{name} has no parameter {sorted(extra)}; known: {', '.join(known)}")
    return TRIGGERS[name](**parameters)
