"""The registry: UBT with its variants, and every defense of this folder. A backdoored model in, a model
out."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ubt_utils.ubt import described, variants
from ubt_utils.ubt.defense import Defense

COMPARED = ("ubt", "finetune")  # what the notebooks 00 to 06 and `make reproduce` run

_MODULES = [variants, described, *(import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__))]
DEFENSES: dict[str, Defense] = {d.name: d for module in _MODULES for d in module.DEFENSES}


def get(name: str) -> Defense:
    """The defense of that name; ValueError lists the known ones."""
    if name not in DEFENSES:
        raise ValueError(f"unknown defense {name!r}; known: {', '.join(DEFENSES)}")
    return DEFENSES[name]
