"""Stage pretrain: the public model that victim and attacker start from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ubt_utils import checkpoints, evaluation, models, runs, towers
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.common import NONE, WEIGHTS, base_config, log_of
from ubt_utils.training import fit

PUBLIC_SEED = 0


def pretrain(profile: Profile) -> Stage:
    """The public model f0: as others have trained it, or trained on the clean captions of the public pairs.

    With a tower, by locked-image tuning (Zhai et al., arXiv 2111.07991): the pretrained image tower
    stays, its features are computed once, and the text tower learns to fit them.

    One fixed model, as public models are: seeds vary D, its noise, its poison and every
    training from there on, not f0.
    """
    seed = PUBLIC_SEED
    config = base_config(replace(profile, locked=0), seed) | {"recipe": asdict(profile.pretrain)}

    def given(folder: Path) -> Mapping[str, Any]:
        model = models.create(profile.model, seed)
        checkpoints.load_any(model, profile.model, profile.weights)
        models.save(model, profile.model, folder / WEIGHTS)
        return {"train_seconds": 0.0, "pairs_seen": 0} | evaluation.clean(model, profile)

    def work(folder: Path) -> Mapping[str, Any]:
        pairs = profile.sets.public_pairs(seed)
        model = models.create(profile.model, seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        start, trained, images = time.perf_counter(), model, pairs.images
        if profile.tower:
            towers.load(model, profile.tower)
            trained, images = towers.OnFeatures(model), towers.features(model, pairs)
            images, tokens = images.flatten(0, 1), tokens.repeat(len(images), 1)
        feature_seconds = time.perf_counter() - start
        history = fit(
            trained, images, tokens, profile.pretrain, seed, "pretrain",
            checkpoint=runs.scratch(folder), label="pretrain f0",
        )  # fmt: skip
        models.save(model, profile.model, folder / WEIGHTS)
        log = log_of(history) | {"feature_seconds": feature_seconds}
        return log | evaluation.clean(model, profile) | evaluation.beyond(model, profile)

    return runs.run_stage(
        (profile.family, NONE, str(seed)), "pretrain", config, given if profile.weights else work
    )
