"""The settings for a model of one's own, by one rule."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.sets import DataSets
from ubt_utils.profiles import MINI, PAPER, PAPER_VIT, PHOTOS, PHOTOS_TINY, TINY, Profile

FAMILY = "own"
OVERFIT_PASSES = 2.5  # over a half of the pool, at most; mini makes 2.3
UNLEARN_PASSES = 1.25  # over D_safe, at most; mini makes 1.2


def profile_of(arch: str, sets: DataSets, pairs: int) -> Profile:
    """The settings for a model of that architecture on a D of so many pairs.

    The rule: everything is as in the profile of this kit that trains the same architecture, and where none
    does, as in `paper`, whose batch of 128 and rate of 1e-5 are meant for large pretrained models. A smaller
    D than that profile's gets fewer steps: those of so many passes, but no fewer than `mini` takes. No
    pictures of other things are asked, since `null` and the report know disturbances only.
    """
    known = (MINI, TINY, PHOTOS, PHOTOS_TINY, PAPER, PAPER_VIT)
    like = next((profile for profile in known if profile.model == arch), PAPER).disturbing()
    pool = like.suspect.pool * pairs
    overfit = _at_most(like.overfit.recipe, OVERFIT_PASSES * pool / 2, MINI.overfit.recipe)
    unlearn = _at_most(like.unlearn.recipe, UNLEARN_PASSES * (pairs - pool), MINI.unlearn.recipe)
    return replace(
        like,
        name=FAMILY,
        family=FAMILY,
        about=f"a model of one's own, with the settings of {like.name}",
        model=arch,
        sets=sets,
        overfit=replace(like.overfit, recipe=overfit),
        unlearn=replace(like.unlearn, recipe=unlearn),
        weights="",
        tower="",
        triggers={},
        recipes={},
        defenses={},
    )


def _at_most(recipe: Recipe, seen: float, least: Recipe) -> Recipe:
    """The recipe, with no more steps than it takes to see so many pairs, or than the other one has."""
    return replace(recipe, steps=min(recipe.steps, max(least.steps, ceil(seen / recipe.batch))))
