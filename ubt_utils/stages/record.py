"""One record for results/: what was run, where, and what came out."""

from __future__ import annotations

from typing import Any

from ubt_utils import report
from ubt_utils.attacks.craft import Crafted
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.attack import attack, twin
from ubt_utils.stages.common import NONE
from ubt_utils.stages.craft import craft
from ubt_utils.stages.defend import evaluate, unlearn
from ubt_utils.stages.detect import overfit, select
from ubt_utils.stages.examine import examine
from ubt_utils.stages.pretrain import pretrain

SELECTED = (
    "detectors", "anchor", "plain_anchor", "tokens", "chosen", "chosen_poisoned",
    "outside_poisoned", "left_out", "left_out_poisoned",
)  # fmt: skip


def _stages(profile: Profile, attack_name: str, seed: int, defense: str) -> dict[str, Stage]:
    found = {"pretrain": pretrain(profile)}
    if attack_name != NONE and isinstance(profile.trigger(attack_name), Crafted):
        found["craft"] = craft(profile, attack_name, seed)
    found["attack"] = attack(profile, attack_name, seed)
    if defense != NONE:
        found["overfit"] = overfit(profile, attack_name, seed)
        found["select"] = select(profile, attack_name, seed)
        found["unlearn"] = unlearn(profile, attack_name, seed, defense)
    elif attack_name != NONE:
        found["twin"] = twin(profile, attack_name, seed)
        found["examine"] = examine(profile, attack_name, seed)
    return found | {"evaluate": evaluate(profile, attack_name, seed, defense)}


def _found(found: dict[str, Stage]) -> dict[str, Any]:
    """What detection came to: the part of the poison that the pool holds, and what was selected."""
    selected = {k: found["select"].metrics.get(k) for k in SELECTED}
    return {"pool_recall": found["overfit"].metrics["pool_recall"], **selected}


def record(profile: Profile, attack_name: str, seed: int, defense: str = NONE) -> dict[str, Any]:
    """One record for results/: identity, config, environment, metrics, and the stages behind it."""
    found = _stages(profile, attack_name, seed, defense)
    metrics = found["evaluate"].metrics
    beside = {}
    if "examine" in found:
        beside = {"twin_clean_accuracy": found["twin"].metrics["clean_accuracy"], **found["examine"].metrics}
    timed = {n: stage.metrics.get("train_seconds") for n, stage in found.items() if n != "twin"}
    return {
        "profile": profile.name,
        "attack": attack_name,
        "defense": defense,
        "seed": seed,
        "environment": report.environment(),
        "config": profile.as_config(),
        "stages": {name: stage.folder.name for name, stage in found.items()},
        "train_seconds": {name: seconds for name, seconds in timed.items() if seconds is not None},
        "metrics": {k: v for k, v in metrics.items() if k != "rates"} | beside,
        "rates": metrics["rates"],
        **(_found(found) if defense == "ubt" else {}),
        **({"curve": found["unlearn"].metrics["curve"]} if defense != NONE else {}),
    }
