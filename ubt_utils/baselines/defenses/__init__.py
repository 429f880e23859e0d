"""The registry: UBT with its variants, and every defense of this folder. A backdoored model in, a model
out."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

from ubt_utils.ubt import described, variants
from ubt_utils.ubt.defense import Defense

COMPARED = ("ubt", "finetune")  # what the notebooks 00 to 06 and `make reproduce` run

GIVEN = (100, 1000)  # pairs that somebody has looked at
# Those whose sources fine-tune on clean data that the defender has.
TRUSTING = ("finetune", "cleanclip", "par", "supervised", "ft_sam", "anp", "pixel_prompt", "invertune")

# Those that left least of the backdoor on the victims of tuning, and plain fine-tuning.
UNSAID = ("shrink_perturb", "supervised", "finetune")


def given(defense: Defense, count: int) -> Defense:
    """The same defense with `count` clean pairs in place of D_safe, under a name that says so."""
    sees = tuple("given pairs" if sight == "D_safe" else sight for sight in defense.sees)
    return replace(defense, name=f"{defense.name}-{count}", sees=sees, given=count)


def unsaid(defense: Defense) -> Defense:
    """The same defense on what is left of D_safe without the carriers of UBT's found words, under a name that
    says so [ours]."""
    sees = (*defense.sees, "detection")
    return replace(defense, name=f"{defense.name}-unsaid", sees=sees, unsaid=defense.name)


_MODULES = [variants, described, *(import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__))]
DEFENSES: dict[str, Defense] = {d.name: d for module in _MODULES for d in module.DEFENSES}
DEFENSES |= {d.name: d for name in TRUSTING for d in (given(DEFENSES[name], count) for count in GIVEN)}
DEFENSES |= {d.name: d for d in (unsaid(DEFENSES[name]) for name in UNSAID)}


def get(name: str) -> Defense:
    """The defense of that name; ValueError lists the known ones."""
    if name not in DEFENSES:
        raise ValueError(f"unknown defense {name!r}; known: {', '.join(DEFENSES)}")
    return DEFENSES[name]
