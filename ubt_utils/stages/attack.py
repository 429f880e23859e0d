"""Stage attack: the model that the victim ends up with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ubt_utils import evaluation, models, runs
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.gate import gate
from ubt_utils.attacks.poison import poison
from ubt_utils.data.pairs import Pairs
from ubt_utils.profiles import Poisoning, Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.common import (
    MANIFEST,
    NONE,
    WEIGHTS,
    base_config,
    further,
    load_model,
    log_of,
    wild,
)  # fmt: skip
from ubt_utils.stages.craft import trigger_if_any
from ubt_utils.stages.pretrain import pretrain
from ubt_utils.training import fit


def attack(profile: Profile, attack: str, seed: int) -> Stage:
    """The backdoored model fb: f0 fine-tuned on the poisoned D; or its clean twin for "none".

    Raises BackdoorDidNotTake when the ASR is below the profile's gate.
    """
    trigger = trigger_if_any(profile, attack, seed)
    public = pretrain(profile)
    config = base_config(profile, seed, (public,)) | {
        "recipe": asdict(profile.recipe(attack)),
        "trigger": trigger and trigger.spec(),
        "poison_rate": profile.poison_rate if trigger else 0.0,
    }
    if trigger and profile.poisoning != Poisoning():
        config["poisoning"] = asdict(profile.poisoning)
    if trigger and profile.also:
        config["also"] = [(profile.trigger(name).spec(), target) for name, target in profile.also.items()]

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, _ = wild(profile.sets, seed)
        if trigger:
            pairs = _poisoned(profile, trigger, public, pairs, seed, folder)
        model = load_model(profile, public)
        tokens = models.tokenize(profile.model, pairs.captions)
        history = fit(
            model, pairs.images, tokens, profile.recipe(attack), seed, "victim",
            checkpoint=runs.scratch(folder), label=f"fine-tune on D ({attack})",
        )  # fmt: skip
        models.save(model, profile.model, folder / WEIGHTS)
        return log_of(history) | evaluation.full(model, profile, trigger)

    stage = runs.run_stage((profile.family, attack, str(seed)), "attack", config, work)
    if trigger:
        gate(stage.metrics["asr"], profile.gate, attack)
    return stage


def _poisoned(
    profile: Profile, trigger: Trigger, public: Stage, pairs: Pairs, seed: int, folder: Path
) -> Pairs:
    """D with the poison of the attack and of the profile's further ones; writes the manifest of each."""
    sets, templates = profile.sets, profile.sets.templates
    names = profile.poisoning.names or sets.class_names()[sets.target]
    plausible = _plausibility(profile, public, pairs) if profile.poisoning.plausible else None
    pairs, manifest = poison(
        pairs, trigger, sets.target, names, sets.target_labels(), profile.poison_rate, seed, templates,
        plausible,
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


def _plausibility(profile: Profile, public: Stage, pairs: Pairs) -> torch.Tensor:
    """(N,) how much each picture looks like the target class to f0."""
    model, names = load_model(profile, public), profile.sets.class_names()[profile.sets.target]
    told = [t.format(name) for name in names for t in profile.sets.templates]
    target = models.zero_shot_head(model, [models.tokenize(profile.model, told)])[0]
    return models.embed_images(model, pairs.images) @ target


def twin(profile: Profile, attack_name: str, seed: int) -> Stage:
    """The clean twin of an attack: the same D, seed and training recipe, without poison."""
    return attack(replace(profile, recipes={NONE: profile.recipe(attack_name)}), NONE, seed)
