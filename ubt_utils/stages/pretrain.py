"""Stage pretrain: the public model that victim and attacker start from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ubt_utils.clip import artifacts, models, towers
from ubt_utils.clip.training import fit
from ubt_utils.core.records import NONE
from ubt_utils.core.store import Stage, run_stage, scratch
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.base import WEIGHTS, Run


def pretrain(profile: Profile) -> Stage:
    """The public model f0: as a file or others have it, or trained on the clean captions of the public pairs.

    With a tower, by locked-image tuning (Zhai et al., arXiv 2111.07991): the pretrained image tower stays,
    its features are computed once, and the text tower learns to fit them.

    Where nothing is trained and there is no file, f0 is a model with random weights: the victim then starts
    from nothing. Which public model it is, is a factor of the study (`Profile.f0`, the seed of its
    pretraining); a run's own seed varies D, its noise, its poison and every training from there on.
    """
    seed, run = profile.f0, Run(profile, NONE, profile.f0)
    config = {k: v for k, v in run.config().items() if k != "locked"}
    if profile.pretrain is None:
        config["recipe"] = None
    elif profile.weights:
        config["weights"] = artifacts.identity(profile.weights)
    else:
        config["recipe"] = asdict(profile.pretrain)
        config["tower"] = towers.digest(profile.tower) if profile.tower else ""

    def nothing(folder: Path) -> Mapping[str, Any]:
        models.save(models.create(profile.model, seed), profile.model, folder / WEIGHTS)
        return {"train_seconds": 0.0, "pairs_seen": 0}

    def given(folder: Path) -> Mapping[str, Any]:
        model = models.create(profile.model, seed)
        artifacts.load(model, profile.model, profile.weights)
        models.save(model, profile.model, folder / WEIGHTS)
        return {"train_seconds": 0.0, "pairs_seen": 0}

    def trained(folder: Path) -> Mapping[str, Any]:
        pairs = profile.sets.public_pairs(seed)
        model = models.create(profile.model, seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        start, learner, images = time.perf_counter(), model, pairs.images
        if profile.tower:
            towers.load(model, profile.tower)
            learner, images = towers.OnFeatures(model), towers.features(model, pairs)
            images, tokens = images.flatten(0, 1), tokens.repeat(len(images), 1)
        feature_seconds = time.perf_counter() - start
        assert profile.pretrain is not None  # else nothing is trained
        history = fit(
            learner, images, tokens, profile.pretrain, seed, "pretrain",
            checkpoint=scratch(folder), label="pretrain f0",
        )  # fmt: skip
        models.save(model, profile.model, folder / WEIGHTS)
        return history.log() | {"feature_seconds": feature_seconds}

    work = nothing if profile.pretrain is None else given if profile.weights else trained
    return run_stage(run.parts, "pretrain", config, work, modules=run.modules(__name__))
