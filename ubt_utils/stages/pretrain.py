"""Stage pretrain: the public model that victim and attacker start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ubt_utils import evaluation, models, runs
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.common import NONE, WEIGHTS, base_config, log_of
from ubt_utils.training import fit

PUBLIC_SEED = 0


def pretrain(profile: Profile) -> Stage:
    """The public model f0, trained on clean captions of the public vendors' drawings.

    One fixed model, as public models are: seeds vary D, its noise, its poison and every
    training from there on, not f0.
    """
    seed = PUBLIC_SEED
    config = base_config(profile, seed) | {"recipe": asdict(profile.pretrain)}

    def work(folder: Path) -> Mapping[str, Any]:
        pairs = profile.sets.public_pairs(seed)
        model = models.create(profile.model, seed)
        tokens = models.tokenize(profile.model, pairs.captions)
        history = fit(
            model, pairs.images, tokens, profile.pretrain, seed, "pretrain",
            checkpoint=runs.scratch(folder), label="pretrain f0",
        )  # fmt: skip
        models.save(model, profile.model, folder / WEIGHTS)
        return log_of(history) | evaluation.clean(model, profile)

    return runs.run_stage((profile.name, NONE, str(seed)), "pretrain", config, work)
