"""The chain of a model of one's own: it begins with a checkpoint and a D that somebody has, not with an
attack."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from ubt_utils.clip import archives, artifacts, models
from ubt_utils.core.store import Stage, run_stage
from ubt_utils.own.sets import OwnSets
from ubt_utils.own.settings import FAMILY, profile_of
from ubt_utils.stages.base import UNKNOWN, WEIGHTS, wild
from ubt_utils.stages.chain import Chain


@dataclass(frozen=True)
class OwnChain(Chain):
    """The stages of one's own model, from suspect to unlearn the same as everywhere. The attack is "unknown".

    checkpoint: fb, a file. f0: the public model, a file or a tag of open_clip's; "" where none is named.
    """

    checkpoint: str = ""
    f0: str = ""

    def config(self) -> dict[str, Any]:
        """As for every run, but of D only what is in it, not where it lies."""
        return super().config() | {"sets": {"kind": type(self.sets).__qualname__, "size": self.sets.size}}

    @property
    def sets(self) -> OwnSets:
        """D, as somebody has it."""
        return cast(OwnSets, self.profile.sets)

    @cached_property
    def attacked(self) -> Stage:
        """fb, as it was given."""
        return adopt(self.profile.model, self.checkpoint)

    @cached_property
    def pretrained(self) -> Stage:
        """The public model; ValueError where none is named."""
        if not self.f0:
            raise ValueError("no public model is named: say --public openai, or a file")
        return adopt(self.profile.model, self.f0)

    @cached_property
    def public(self) -> Stage | None:
        """The public model, where one is named."""
        return self.pretrained if self.f0 else None


def adopt(name: str, weights: str) -> Stage:
    """Somebody's model, read once and kept as the other stages read theirs, whatever D it comes with.

    name: its architecture. weights: a file, or a tag of open_clip's. Raises CheckpointError where it is of
    another architecture, or no checkpoint. Metrics: warnings, such as of another activation.
    """

    def work(folder: Path) -> Mapping[str, Any]:
        model = models.create(name, seed=0)
        with warnings.catch_warnings(record=True) as told:
            artifacts.load(model, name, weights)
        models.save(model, name, folder / WEIGHTS)
        return {"warnings": [str(one.message) for one in told]}

    config = {
        "model": name,
        "architecture": models.architecture(name),
        "weights": artifacts.identity(weights),
    }
    made = run_stage((FAMILY, "models"), "adopt", config, work, modules=(__name__,))
    for told in made.metrics["warnings"]:  # each time, not only when it is read
        warnings.warn(told, stacklevel=2)
    return made


def chain_of(
    model: str | Path,
    arch: str,
    pairs: str | Path,
    images: str | Path | None = None,
    public: str | None = None,
    seed: int = 0,
) -> OwnChain:
    """The chain of a checkpoint and the pairs that it was trained on, once both can be read.

    Raises ValueError for an architecture that nobody knows, for a checkpoint of another one, and for pairs
    that are missing, damaged or too few to vote.
    """
    size = models.architecture(arch)["vision_cfg"]["image_size"]
    if not isinstance(size, int):
        raise ValueError(f"{arch} looks at pictures of {size}; only square ones can be disturbed here")
    archives.kind_of(Path(model))  # a file, and no tag
    with warnings.catch_warnings(action="ignore"):  # the stages will warn
        for weights in filter(None, (str(model), public)):
            adopt(arch, weights)  # what is no checkpoint is refused before any picture is read
    sets = OwnSets(str(pairs), str(images or ""), size)
    count = len(wild(sets, seed)[0])
    profile = profile_of(arch, sets, count)
    if count < (least := 2 * min(profile.select.voters)):
        raise ValueError(f"{pairs} has {count} pairs; a vote among them takes {least} at least")
    return OwnChain(profile, UNKNOWN, seed, str(model), public or "")
