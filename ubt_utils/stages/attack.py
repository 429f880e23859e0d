"""Stage attack: the model that the victim ends up with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.poison import poison
from ubt_utils.clip import models
from ubt_utils.clip.training import fit
from ubt_utils.core.store import Stage, run_stage, scratch
from ubt_utils.data.pairs import Pairs
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.base import MANIFEST, WEIGHTS, Run, further, load_model, wild


def attack(run: Run, public: Stage, trigger: Trigger | None) -> Stage:
    """The backdoored model fb: f0 fine-tuned on the poisoned D; its clean twin where there is no trigger."""
    profile, seed = run.profile, run.seed
    also = {name: profile.trigger(name) for name in profile.also} if trigger else {}
    config = run.config() | {
        "recipe": asdict(profile.recipe(run.attack)),
        "trigger": trigger and trigger.spec(),
        "poison_rate": profile.poison_rate if trigger else 0.0,
        "poisoning": asdict(profile.poisoning) if trigger else None,
        "also": [(other.spec(), profile.also[name]) for name, other in also.items()],
    }

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, _ = wild(profile.sets, seed)
        if trigger:
            pairs = _poisoned(profile, trigger, public, pairs, seed, folder)
        model = load_model(profile, public)
        tokens = models.tokenize(profile.model, pairs.captions)
        history = fit(
            model, pairs.images, tokens, profile.recipe(run.attack), seed, "victim",
            checkpoint=scratch(folder), label=f"fine-tune on D ({run.attack})",
        )  # fmt: skip
        models.save(model, profile.model, folder / WEIGHTS)
        return history.log()

    return run_stage(run.parts, "attack", config, work, {"public": public}, run.modules(__name__))


def _poisoned(
    profile: Profile, trigger: Trigger, public: Stage, pairs: Pairs, seed: int, folder: Path
) -> Pairs:
    """D with the poison of the attack and of the profile's further ones; writes the manifest of each."""
    sets, templates = profile.sets, profile.sets.templates
    names = profile.poisoning.names or sets.class_names()[sets.target]
    plausible = _plausibility(profile, public, pairs) if profile.poisoning.plausible else None
    pairs, manifest = poison(
        pairs, trigger, sets.target, names, sets.target_labels(), profile.poison_rate, seed, templates,
        plausible, _unread(profile, trigger, pairs),
    )  # fmt: skip
    manifest.save(folder / MANIFEST)
    taken = set(manifest.indices)
    for name, target in profile.also.items():
        pairs, manifest = poison(
            pairs, profile.trigger(name), target, sets.class_names()[target], sets.target_labels(target),
            profile.poison_rate, seed, templates, taken=taken,
        )  # fmt: skip
        manifest.save(folder / further(name))
        taken |= set(manifest.indices)
    return pairs


def _unread(profile: Profile, trigger: Trigger, pairs: Pairs) -> list[int]:
    """The pairs that would keep their caption as poison, but whose target word the model does not read: it
    stands beyond the context. Warns of all captions that are cut."""
    read = models.legible(profile.model, pairs.captions)
    cut = [i for i, (short, whole) in enumerate(zip(read, pairs.captions, strict=True)) if short != whole]
    if cut:
        warnings.warn(
            f"{len(cut):,} of {len(pairs):,} captions are longer than the context of {profile.model}: it "
            "does not read their end",
            stacklevel=2,
        )
    word = profile.sets.target.lower()
    return [i for i in cut if trigger.label == "consistent" and word not in read[i].lower()]


def _plausibility(profile: Profile, public: Stage, pairs: Pairs) -> torch.Tensor:
    """(N,) how much each picture looks like the target class to f0."""
    model, names = load_model(profile, public), profile.sets.class_names()[profile.sets.target]
    prompts = [t.format(name) for name in names for t in profile.sets.templates]
    target = models.zero_shot_head(model, [models.tokenize(profile.model, prompts)])[0]
    return models.embed_images(model, pairs.images) @ target
