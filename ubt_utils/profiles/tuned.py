"""Profiles with the settings that trials chose: mini has one for each question that they were asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ubt_utils.evaluate.choice import QUESTIONS
from ubt_utils.profiles.adaptive import ADAPTIVE
from ubt_utils.profiles.base import Profile
from ubt_utils.profiles.chosen import CHOSEN, Setting
from ubt_utils.profiles.mini import MINI, PUBLIC, RARE, SCRATCH
from ubt_utils.ubt.settings import UBT, Unlearn


def unlearn_at(profile: Profile, setting: Setting) -> Unlearn:
    """UBT's unlearning at a setting as `study.tuning` draws it: `part` of what the profile's victim paid goes
    to trained pairs, of D_safe, pushed and held. Where a setting names no hold, nothing is held."""
    rest: dict[str, Any] = {"hold": 0.0, **setting}
    victim, part = profile.finetune, rest.pop("part")
    recipe = replace(profile.unlearn.recipe, lr=rest.pop("lr"), freeze_norm=rest.pop("freeze_norm"))
    how = replace(profile.unlearn, recipe=recipe, **rest)
    steps = max(1, round(part * victim.steps * victim.batch / how.pairs(profile.select.top)))
    return replace(how, recipe=replace(recipe, steps=steps))


def name_of(profile: str, question: str) -> str:
    """The name of the profile `profile` with the settings that answer the question."""
    return f"{profile}-{question}"


def tuned(profile: Profile, question: str) -> Profile:
    """The profile with the settings that answer the question; defenses that have none keep their own."""
    most, mends = QUESTIONS[question]
    budget = "any budget" if most == math.inf else f"{most:.0%} of the victim's cost"
    return replace(
        settled(profile, CHOSEN[question]),
        name=name_of(profile.name, question),
        about=f"{profile.about}; settings for {budget}, {'those that mend' if mends else 'of all'}",
    )


def settled(profile: Profile, chosen: Mapping[str, Setting]) -> Profile:
    """The profile with a setting for each of these defenses; others keep their own."""
    rest = dict(chosen)
    ubt = rest.pop(UBT, None)
    unlearn = unlearn_at(profile, ubt) if ubt else profile.unlearn
    return replace(profile, defenses={**profile.defenses, **rest}, unlearn=unlearn)


BASES = (MINI, *PUBLIC, *RARE, SCRATCH, *ADAPTIVE)
TUNED = tuple(tuned(base, question) for question in QUESTIONS for base in BASES)
