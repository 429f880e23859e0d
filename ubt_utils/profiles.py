"""Profiles: everything that a run needs to know, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.data.emoji_sets import EmojiSets
from ubt_utils.data.photo_sets import PhotoSets
from ubt_utils.training import Recipe

Sets = EmojiSets | PhotoSets


@dataclass(frozen=True)
class Overfit:
    """UBT steps 1 and 2. pool: fraction ρ of D, least similar under f0. recipe: the short
    training on it, read `reads` times along its way."""

    recipe: Recipe
    pool: float = 0.25
    reads: int = 4


@dataclass(frozen=True)
class Select:
    """UBT steps 3 and 4. top: pairs in the unlearning set D_u (k). outlier: the fraction of
    the largest surprise from which a token counts as compromised."""

    top: int = 64
    outlier: float = 0.5


@dataclass(frozen=True)
class Unlearn:
    """UBT step 5. weight: w of the forgetting term. level: token or sample. words: how many other words
    stand in for B at the token level; 0: B is left out."""

    recipe: Recipe
    weight: float = 1.0
    level: str = "token"
    words: int = 4

    def options(self) -> dict[str, Any]:
        """All but the recipe."""
        return {"weight": self.weight, "level": self.level, "words": self.words}


@dataclass(frozen=True)
class Profile:
    """One setting, from data to evaluation.

    finetune: the victim's training on D. baseline: the fine-tuning defense; its steps are set
    by UBT's cost. gate: the ASR below which the pipeline stops. triggers: attack name → its
    parameters where they differ from the trigger's defaults; recipes: attack name → the
    victim's training where it is not `finetune`. tower: weights that f0's image tower starts from
    ("imagenet", or a file); it is then locked in pretraining, and `pretrain` trains the rest. ""
    trains all of f0 from nothing. locked: stages of the image tower that no later training moves.
    defenses: defense name → its learning rate and options where they differ from its own.
    """

    name: str
    about: str
    model: str
    sets: Sets
    pretrain: Recipe
    finetune: Recipe
    overfit: Overfit
    select: Select
    unlearn: Unlearn
    baseline: Recipe
    poison_rate: float = 0.01
    gate: float = 0.5
    triggers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    tower: str = ""
    locked: int = 0
    defenses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def trigger(self, attack: str) -> Trigger:
        """The trigger of `attack` with this profile's parameters; ValueError if unknown."""
        return triggers.get(attack, **self.triggers.get(attack, {}))

    def recipe(self, attack: str) -> Recipe:
        """How the victim of `attack` trains on D."""
        return self.recipes.get(attack, self.finetune)

    def as_config(self) -> dict[str, Any]:
        """The whole profile as plain data, for records."""
        return asdict(self)


VICTIM = Recipe(steps=272, lr=1.25e-3, augment="color")  # 4 passes over 17,688 pairs
HARDER = replace(VICTIM, lr=2.5e-3)  # for triggers that need it to take
# A color filter cannot be told from color augmentation, so its victim must not augment.
PLAIN = replace(VICTIM, lr=3e-3, augment="none")

MINI = Profile(
    name="mini",
    about="emoji by seven vendors at 48 px, 17,688 wild pairs; minutes on two CPU cores",
    model="ubt-mini",
    sets=EmojiSets(),
    pretrain=Recipe(steps=920, lr=2e-3, augment="full"),  # 40 passes over 5,896 pairs
    finetune=VICTIM,
    overfit=Overfit(Recipe(steps=20, lr=2e-3, one_cycle=False, freeze_norm=True)),
    select=Select(),
    unlearn=Unlearn(Recipe(steps=120, lr=1e-3, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=1e-3, freeze_norm=True),  # steps: what UBT costs
    triggers={  # what takes at 48 px with 177 poisoned pairs: results/mini/attack_sweep.parquet
        "badclip": {"size": 0.25},
        "badnets": {"size": 0.29},
        "badnets_cleanclip": {"size": 0.45, "cells": 4},
        "badnets_dots": {"size": 0.4, "cells": 4},
        "badnets_stripes": {"size": 0.4, "cells": 8},
        "blended": {"alpha": 0.35},
        "blended_picture": {"alpha": 0.4},
        "blended_stripes": {"alpha": 0.12, "stripes": 48},
        "blended_text": {"alpha": 0.6, "text": "mark", "solid": True},
        "blended_triangles": {"alpha": 0.35},
        "issba": {"amplitude": 0.35, "quiet": 2.0},
        "label_consistent": {"size": 0.45},
        "multi_trigger": {"mix": "badnets_dots+blended+sig", "size": 0.45, "cells": 4, "alpha": 0.4},
        "nashville": {"amount": 3.0},
        "sig_cleanclip": {"alpha": 0.3},
        "targeted_image": {"goals": 5},
        "text_on_image": {"size": 0.35},
        "trojanvqa": {"size": 0.25},
        "wanet": {"grid": 48, "warp": 32.0},
    },
    recipes={
        "badnets_cleanclip": HARDER,
        "badnets_dots": HARDER,
        "blended_picture": HARDER,
        "blended_text": HARDER,
        "blended_triangles": HARDER,
        "issba": HARDER,
        "label_consistent": HARDER,
        "multi_trigger": HARDER,
        "nashville": PLAIN,
        "sig_cleanclip": HARDER,
        "wanet": HARDER,
    },
)

TINY = replace(
    MINI,
    name="tiny",
    about="the same code shrunk to seconds, for tests: plumbing, not science, so the gate is open",
    sets=EmojiSets(classes=20, limit=120, wild_copies=3, test_copies=2, size=32),
    model="ubt-tiny",
    pretrain=Recipe(steps=12, lr=2e-3, batch=64, augment="full"),
    finetune=Recipe(steps=12, lr=2e-3, batch=64),
    overfit=Overfit(Recipe(steps=4, lr=2e-3, batch=64, one_cycle=False, freeze_norm=True), reads=2),
    unlearn=Unlearn(Recipe(steps=4, lr=1e-3, batch=64, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=1e-3, batch=64, freeze_norm=True),
    poison_rate=0.1,
    gate=0.0,
    triggers=MINI.triggers | {n: {**MINI.triggers[n], "steps": 3} for n in ("badclip", "issba", "trojanvqa")},
    recipes={},
)

PHOTOS = Profile(
    name="photos",
    about="Tiny-ImageNet and Flickr8k at 96 px, a really pretrained image tower; a subset for two CPU cores",
    model="ubt-photos",
    sets=PhotoSets(),
    tower="imagenet",
    locked=2,
    pretrain=Recipe(steps=1400, lr=2e-3, batch=256, weight_decay=0.3),
    finetune=Recipe(steps=170, lr=8e-4, batch=128, freeze_norm=True),
    overfit=Overfit(Recipe(steps=20, lr=5e-4, batch=128, one_cycle=False, freeze_norm=True), reads=2),
    select=Select(),
    unlearn=Unlearn(Recipe(steps=40, lr=3e-4, batch=128, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=3e-4, batch=128, freeze_norm=True),
    triggers={"badnets": {"size": 0.29}, "blended": {"alpha": 0.25}},
)

PHOTOS_GPU = replace(
    PHOTOS,
    name="photos-gpu",
    about="all of Tiny-ImageNet and Flickr8k, the whole image tower unlocked: for a GPU",
    sets=replace(PHOTOS.sets, public=250, wild=249, wild_captions=5, probe=100),
    locked=0,
    pretrain=replace(PHOTOS.pretrain, steps=2000),
    finetune=replace(PHOTOS.finetune, steps=2000),
)

PHOTOS_TINY = replace(
    PHOTOS,
    name="photos-tiny",
    about="photos shrunk to seconds, for tests: plumbing, not science, so the gate is open",
    model="ubt-photos-tiny",
    sets=PhotoSets(public=6, wild=6, classes=8, photos=3, size=32, probe=2),
    pretrain=Recipe(steps=4, lr=1e-3, batch=32),
    finetune=Recipe(steps=4, lr=5e-4, batch=16, freeze_norm=True),
    overfit=Overfit(Recipe(steps=2, lr=5e-4, batch=8, one_cycle=False, freeze_norm=True), pool=0.5, reads=2),
    select=Select(top=8),
    unlearn=Unlearn(Recipe(steps=3, lr=3e-4, batch=16, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=3e-4, batch=16, freeze_norm=True),
    poison_rate=0.1,
    gate=0.0,
    triggers=PHOTOS.triggers | {name: {"steps": 3} for name in ("badclip", "issba", "trojanvqa")},
)

NOISES = tuple(
    replace(
        MINI,
        name=f"mini-noise{percent}",
        about=f"mini with {percent} % of D's captions misplaced, as an ablation",
        sets=replace(MINI.sets, noise=percent / 100),
    )
    for percent in (0, 30)
)

PROFILES = {profile.name: profile for profile in (MINI, TINY, *NOISES, PHOTOS, PHOTOS_GPU, PHOTOS_TINY)}


def get(name: str) -> Profile:
    """The profile of that name; ValueError lists the known ones."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
