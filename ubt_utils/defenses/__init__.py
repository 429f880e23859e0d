"""The registry: every defense of this folder, found by name. A backdoored model in, a model out."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ubt_utils.defenses.base import Defense

COMPARED = ("ubt", "finetune")  # what the notebooks 00 to 06 and `make reproduce` run

DEFENSES: dict[str, Defense] = {
    found.name: found
    for module in sorted(m.name for m in iter_modules(__path__))
    for found in getattr(import_module(f"{__name__}.{module}"), "DEFENSES", ())
}


def get(name: str) -> Defense:
    """The defense of that name; ValueError lists the known ones."""
    if name not in DEFENSES:
        raise ValueError(f"unknown defense {name!r}; known: {', '.join(DEFENSES)}")
    return DEFENSES[name]
