"""One record for results/: what was run, from what, where, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ubt_utils.core.records import NONE
from ubt_utils.core.store import Stage
from ubt_utils.stages.chain import Chain
from ubt_utils.ubt.settings import UBT

SUSPECTED = ("found", "asked", "pool_recall", "pool_size", "poisoned")
SELECTED = (
    "detectors", "anchors", "tokens", "poisonous", "poisonous_poisoned", "chosen", "chosen_poisoned",
    "outside_poisoned", "left_out", "left_out_poisoned",
)  # fmt: skip


def record(run: Chain, defense: str = NONE) -> dict[str, Any]:
    """One record: identity, config, per stage its folder, what it wrote and where it was made, and the
    metrics.

    `environment` is that of the making of what was measured last. cluster: runs of one public model and one
    seed, which share D, are no independent evidence.
    """
    found = run.stages(defense)
    metrics = found["evaluate"].metrics
    beside = found["examine"].metrics if "examine" in found else {}
    timed = {n: stage.metrics.get("train_seconds") for n, stage in found.items() if n != "twin"}
    return {
        "profile": run.profile.name,
        "attack": run.attack,
        "defense": defense,
        "seed": run.seed,
        "f0_seed": run.profile.f0,
        "cluster": f"{run.profile.f0}-{run.seed}",
        "poison_rate": 0.0 if run.attack == NONE else run.profile.poison_rate,
        "environment": {k: v for k, v in found["evaluate"].made.items() if k not in ("seconds", "starts")},
        "config": run.profile.as_config(),
        **({"plan": run.plan(defense).config()} if defense != NONE else {}),
        "stages": {name: stage.folder.name for name, stage in found.items()},
        "contents": {name: dict(stage.contents) for name, stage in found.items() if stage.contents},
        "made": {name: _made(stage) for name, stage in found.items()},
        "train_seconds": {name: seconds for name, seconds in timed.items() if seconds is not None},
        "metrics": {k: v for k, v in metrics.items() if k != "rates"} | {**beside},
        "rates": metrics["rates"],
        **(_detected(found) if defense == UBT else {}),
        **({"curve": found["unlearn"].metrics["curve"]} if defense != NONE else {}),
    }


def _made(stage: Stage) -> dict[str, Any]:
    """Where a stage was made; versions are in the record's `environment`."""
    names = ("date", "commit", "device", "threads", "ranks", "workers", "python", "seconds")
    return {name: stage.made[name] for name in names} | (
        {"starts": len(stage.made["starts"])} if "starts" in stage.made else {}
    )


def _detected(found: Mapping[str, Stage]) -> dict[str, Any]:
    """What detection came to: which words were looked at and believed, the part of the poison that the pool
    holds, which pairs suffer like it, and what was selected."""
    suspected = {k: found["suspect"].metrics[k] for k in SUSPECTED}
    return suspected | {k: found["select"].metrics.get(k) for k in SELECTED}
