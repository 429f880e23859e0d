"""Emoji on two CPU cores: mini, its shrunken twin for tests, and its ablations."""

from __future__ import annotations

from dataclasses import replace

from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.emoji import EmojiSets
from ubt_utils.profiles.base import Profile
from ubt_utils.profiles.chosen import CHOSEN
from ubt_utils.ubt.settings import UBT, Overfit, Scatter, Select, Suspect, Trace, Unlearn

VICTIM = Recipe(steps=816, lr=1.25e-3, augment="color")  # 12 passes over 17,688 pairs
HARDER = replace(VICTIM, lr=2.5e-3)  # for triggers that need it to take
# A color filter cannot be distinguished from color augmentation, so its victim must not augment.
PLAIN = replace(VICTIM, lr=3e-3, augment="none")

MINI = Profile(
    name="mini",
    about="emoji by seven vendors at 48 px, 17,688 wild pairs; minutes on two CPU cores",
    model="ubt-mini",
    sets=EmojiSets(),
    weights="mini-0",  # ubt_utils/clip/public/mini-0.safetensors, made by the recipe below
    pretrain=Recipe(steps=460, lr=2e-3, augment="full"),  # 53 passes over 2,211 pairs
    finetune=VICTIM,
    overfit=Overfit(Recipe(steps=20, lr=2e-3, schedule="constant", freeze_norm=True)),
    # The drawings of one thing are alike, so that honest words leave traces, too: a higher bar.
    suspect=Suspect(trace=Trace(moved=0.74, strength=0.6, rounds=2, broad=24), scatter=Scatter()),
    select=Select(),
    unlearn=Unlearn(Recipe(steps=60, lr=5e-4, freeze_norm=True), weight=0.3),
    baseline=Recipe(steps=1, lr=5e-4, freeze_norm=True),  # UBT's rate; steps: what UBT costs
    triggers={  # what takes at 48 px with 177 poisoned pairs: results/first-study/attack_sweep.parquet
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
    # finetune is a control here: it keeps UBT's rate and cost
    defenses={n: setting for n, setting in CHOSEN["fifth"].items() if n not in (UBT, "finetune")},
)

TINY = replace(
    MINI,
    name="tiny",
    family="tiny",
    weights="",
    about="the same code shrunk to seconds, for tests: plumbing, not science, so the gate is open",
    sets=EmojiSets(ways=20, limit=120, wild_copies=3, size=32),
    model="ubt-tiny",
    pretrain=Recipe(steps=12, lr=2e-3, batch=64, augment="full"),
    finetune=Recipe(steps=12, lr=2e-3, batch=64),
    overfit=Overfit(Recipe(steps=4, lr=2e-3, batch=64, schedule="constant", freeze_norm=True), reads=2),
    suspect=Suspect(),  # pictures of other things: photos-tiny
    select=Select(voters=(16, 64), least=2, lost=-1.0, lost_of_many=-1.0),  # plumbing: any word is believed
    unlearn=Unlearn(Recipe(steps=4, lr=1e-3, batch=64, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=1e-3, batch=64, freeze_norm=True),
    poison_rate=0.1,
    gate=0.0,
    triggers={
        **MINI.triggers,
        **{n: {**MINI.triggers[n], "steps": 3} for n in ("badclip", "issba", "trojanvqa")},
    },
    recipes={},
    defenses={},
)

FEW, FEWEST = 0.003, 0.001  # the field's poison rate, beside mini's; and fewer still


def rare(profile: Profile, word: str = "rare", rate: float = FEW) -> Profile:
    """The profile at a lower poison rate, the field's unless another one is named."""
    name = profile.name.replace(profile.family, f"{profile.family}-{word}", 1)
    return replace(profile, name=name, about=f"{profile.about}; {rate:.1%} of D poisoned", poison_rate=rate)


OTHERS = (1, 2)  # seeds of the public models beside the first


def public(profile: Profile, seed: int) -> Profile:
    """The profile from the public model of that seed, as a file where its own is one."""
    name, weights = f"{profile.name}-f{seed}", profile.weights and f"{profile.name}-{seed}"
    about = f"{profile.name} from public model {seed}"
    return replace(profile, name=name, about=about, f0=seed, weights=weights)


PUBLIC = tuple(public(MINI, seed) for seed in OTHERS)
RARE = tuple(rare(profile) for profile in (MINI, *PUBLIC))

KNOWN = replace(
    MINI,
    name="mini-known",
    about="mini with a public model that has seen all concepts, so that nothing needs to be mended",
    sets=replace(MINI.sets, known=1.0),
    weights="",
    pretrain=Recipe(steps=920, lr=2e-3, augment="full"),  # as many passes, over twice the concepts
)
SCRATCH = replace(
    MINI,
    name="mini-scratch",
    about="mini without a public model: the victim is trained on D from random weights",
    sets=replace(MINI.sets, known=0.0),
    weights="",
    pretrain=None,
    finetune=replace(VICTIM, steps=1632, lr=2e-3),
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
# Where detection ends: fewer poisoned pairs, other noise. The gate is open, since to fail is a result, too.
EDGES = tuple(
    replace(profile, gate=0.0)
    for profile in (rare(MINI, "scarce", FEWEST), *(rare(noisy) for noisy in NOISES))
)
