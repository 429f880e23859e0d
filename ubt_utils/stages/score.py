"""Stage score: what every detector makes of D, for comparison. UBT does not need it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ubt_utils.baselines import detectors
from ubt_utils.clip import models
from ubt_utils.core.store import Stage, run_stage, save_arrays
from ubt_utils.evaluate import metrics
from ubt_utils.stages.base import Run, load_model, poisoned_pairs
from ubt_utils.stages.overfit import scores_of

UBT = "ubt"


def score(run: Run, attacked: Stage, suspected: Stage, overfitted: Stage, selected: Stage) -> Stage:
    """Every detector of the registry, and UBT's list beside them, on the same poisoned set.

    Arrays: per detector its scores (N,). Metrics: per detector AUROC, average precision, precision@64, FPR at
    95 % TPR (nothing where there is no poison); and the seconds of each, without those of the similarities
    that `suspect` and `overfit` took.
    """
    profile, names = run.profile, sorted(detectors.DETECTORS)

    def work(folder: Path) -> Mapping[str, Any]:
        pairs, truth = poisoned_pairs(run, attacked)
        model, (seen, _) = load_model(profile, attacked), scores_of(suspected, overfitted)
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
        save_arrays(folder, **values)
        told = truth is not None and truth.any()
        return {
            "detectors": {n: metrics.detection(v, truth) for n, v in values.items()} if told else {},
            "embed_seconds": embed_seconds,
            "seconds": seconds,
        }

    config = run.config() | {"detectors": names}
    inputs = {
        "attacked": attacked, "suspected": suspected, "overfitted": overfitted, "selected": selected,
    }  # fmt: skip
    return run_stage(run.parts, "score", config, work, inputs, run.modules(__name__))
