"""Stage score: what every detector makes of D, for comparison. UBT does not need it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ubt_utils import detectors, metrics, models, runs
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.attack import attack
from ubt_utils.stages.common import base_config, load_model, poisoned_pairs
from ubt_utils.stages.detect import overfit, scores_of, select

UBT = "ubt"


def score(profile: Profile, attack_name: str, seed: int) -> Stage:
    """Every detector of the registry, and UBT's list beside them, on the same poisoned set.

    Arrays: per detector its scores (N,). Metrics: per detector AUROC, average precision, precision@64,
    FPR at 95 % TPR (nothing where there is no poison); and the seconds of each, without those of the
    similarities that `overfit` took.
    """
    attacked, overfitted = attack(profile, attack_name, seed), overfit(profile, attack_name, seed)
    selected = select(profile, attack_name, seed)
    names = sorted(detectors.DETECTORS)
    config = base_config(profile, seed, (overfitted, selected)) | {"detectors": names}

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(profile, attacked, seed)
        model, (seen, _) = load_model(profile, attacked), scores_of(overfitted)
        start = time.perf_counter()
        tokens = models.tokenize(profile.model, pairs.captions)
        z, t = models.embed_images(model, pairs.images), models.embed_tokens(model, tokens)
        embed_seconds = time.perf_counter() - start
        seen = replace(seen, images=z, texts=t, scale=model.logit_scale.exp().item())
        values, seconds = {UBT: selected.arrays()["score"]}, {}
        for name in names:
            start = time.perf_counter()
            values[name] = detectors.get(name)(seen)
            seconds[name] = time.perf_counter() - start
        runs.save_arrays(folder, **values)
        return {
            "detectors": {n: metrics.detection(v, truth) for n, v in values.items()} if truth.any() else {},
            "embed_seconds": embed_seconds,
            "seconds": seconds,
        }

    return runs.run_stage((profile.family, attack_name, str(seed)), "score", config, work)
