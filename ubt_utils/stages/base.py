"""What the stages share: who they run for, data in memory, reading models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ubt_utils.attacks.manifest import Manifest
from ubt_utils.clip import models, towers
from ubt_utils.core.records import NONE
from ubt_utils.core.store import Stage
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.sets import DataSets, identity
from ubt_utils.data.zero_shot import target_index
from ubt_utils.profiles.base import Profile

WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
UNKNOWN = "unknown"  # as an attack: a model and a D of which nobody has told whether there is one
TRIGGERLESS = (NONE, UNKNOWN)


@dataclass(frozen=True)
class Run:
    """What a stage is run for: a profile, an attack ("none": the clean twin; "unknown": nobody has told), and
    a seed."""

    profile: Profile
    attack: str
    seed: int

    @property
    def parts(self) -> tuple[str, str, str]:
        """The folder of its stages under `runs/`; profiles of one family share it."""
        return self.profile.family, self.attack, str(self.seed)

    def config(self) -> dict[str, Any]:
        """What every stage's key holds: model, data (settings and content), seed, what stays locked."""
        profile = self.profile
        known = tuple(profile.sets.class_names())  # an unknown target is refused before anything is trained
        for target in profile.also.values():
            target_index(known, target)
        return {
            "model": profile.model,
            "architecture": models.architecture(profile.model),
            "locked": profile.locked,
            "sets": {"kind": type(profile.sets).__qualname__, **asdict(profile.sets)},
            "data": profile.sets.contents(),
            "seed": self.seed,
        }

    def modules(self, *own: str) -> tuple[str, ...]:
        """The code that a stage runs: its own modules, those of the data set, and those of the run's
        triggers."""
        names = () if self.attack in TRIGGERLESS else (self.attack, *self.profile.also)
        kinds = {type(self.profile.trigger(name)).__module__ for name in names}
        return (*own, type(self.profile.sets).__module__, *sorted(kinds))

    def needs_poison(self) -> None:
        """Raise ValueError for the clean twin, which has no trigger to examine."""
        if self.attack == NONE:
            raise ValueError("the clean twin has neither trigger nor poison: name an attack")


def wild(sets: DataSets, seed: int) -> tuple[Pairs, torch.Tensor]:
    """D before poisoning and the indices of its misplaced captions, kept in memory while its files stay."""
    return _wild(sets, seed, identity(sets))


@lru_cache(maxsize=2)
def _wild(sets: DataSets, seed: int, contents: frozenset) -> tuple[Pairs, torch.Tensor]:
    return sets.wild_pairs(seed)


def further(attack: str) -> str:
    """The file of a further attack's manifest; each applies to what the ones before it made."""
    return f"manifest-{attack}.json"


def load_model(profile: Profile, stage: Stage, file: str = WEIGHTS) -> nn.Module:
    """A model that a stage has written, locked as the profile says."""
    return towers.lock(models.load(profile.model, stage.path(file)), profile.locked)


def poisoned_pairs(run: Run, attacked: Stage) -> tuple[Pairs, torch.Tensor | None]:
    """D as the victim and the defender have it, and the truth (N,) bool that neither has; None: nobody has
    it."""
    pairs, _ = wild(run.profile.sets, run.seed)
    if run.attack == UNKNOWN:
        return pairs, None
    truth = torch.zeros(len(pairs), dtype=torch.bool)
    for name in (MANIFEST, *map(further, run.profile.also)):
        if name in attacked.contents:
            manifest = Manifest.load(attacked.path(name))
            pairs, truth = manifest.apply(pairs), truth | manifest.mask(len(pairs))
    return pairs, truth


def poison_among(truth: torch.Tensor | None, part: torch.Tensor) -> int | None:
    """How many of the pairs `part`, (N,) bool or indices, are poisoned; None where the truth is unknown."""
    return None if truth is None else int(truth[part].sum())


def truth_array(truth: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The truth as stages save it among their arrays: not at all where it is unknown."""
    return {} if truth is None else {"truth": truth.to(torch.uint8)}
