"""What the stages share: data in memory, the config every stage records, reading models."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ubt_utils import __version__, checkpoints, models, towers
from ubt_utils.attacks.manifest import Manifest
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.zero_shot import target_index
from ubt_utils.profiles import Profile, Sets
from ubt_utils.runs import Stage
from ubt_utils.training import History

NONE = "none"  # as an attack: the clean twin; as a defense: undefended
LOG = ("train_seconds", "feature_seconds", "pairs_seen", "first_loss", "last_loss")
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"


@lru_cache(maxsize=2)
def wild(sets: Sets, seed: int) -> tuple[Pairs, torch.Tensor]:
    """D before poisoning and the indices of its misplaced captions, kept in memory."""
    return sets.wild_pairs(seed)


def further(attack_name: str) -> str:
    """The file of a further attack's manifest; each applies to what the ones before it made."""
    return f"manifest-{attack_name}.json"


def needs_poison(attack_name: str) -> None:
    """Raise ValueError for the clean twin, which has no trigger to examine and no poison to rank."""
    if attack_name == NONE:
        raise ValueError("the clean twin has neither trigger nor poison: name an attack")


def base_config(profile: Profile, seed: int, inputs: tuple[Stage, ...] = ()) -> dict[str, Any]:
    """What every stage's config holds: model, data, seed, versions, keys of its inputs."""
    known = tuple(profile.sets.class_names())  # an unknown target is told before anything is trained
    for target in profile.also.values():
        target_index(known, target)
    tower = {"tower": towers.digest(profile.tower)} if profile.tower else {}
    locked = {"locked": profile.locked} if profile.locked else {}
    weights = {"weights": checkpoints.told(profile.weights)} if profile.weights else {}
    return {
        "version": __version__,
        "model": profile.model,
        **tower,
        **locked,
        **weights,
        "sets": asdict(profile.sets),
        "packages": profile.sets.versions(),
        "seed": seed,
        "inputs": [stage.folder.name for stage in inputs],
    }


def load_model(profile: Profile, stage: Stage) -> nn.Module:
    """The model that a stage has written, locked as the profile says."""
    return towers.lock(models.load(profile.model, stage.path(WEIGHTS)), profile.locked)


def log_of(history: History) -> dict[str, Any]:
    """The part of a training's history that metrics keep."""
    return {
        "train_seconds": history.seconds,
        "pairs_seen": history.pairs_seen,
        "first_loss": history.loss[0] if history.loss else None,  # nothing was trained
        "last_loss": history.loss[-1] if history.loss else None,
    }


def unlogged(stage: Stage) -> dict[str, Any]:
    """What a training stage measured about its model, without the log of its training."""
    return {k: v for k, v in stage.metrics.items() if k not in LOG}


def poisoned_pairs(profile: Profile, attacked: Stage, seed: int) -> tuple[Pairs, torch.Tensor]:
    """D as the victim and the defender have it, and the truth (N,) bool that neither has."""
    pairs, _ = wild(profile.sets, seed)
    truth = torch.zeros(len(pairs), dtype=torch.bool)
    for name in (MANIFEST, *map(further, profile.also)):
        if name in attacked.config["files"]:
            manifest = Manifest.load(attacked.path(name))
            pairs, truth = manifest.apply(pairs), truth | manifest.mask(len(pairs))
    return pairs, truth
