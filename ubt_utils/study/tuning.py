"""How every defense gets its settings: the same number of trials, on an attack and seeds kept for that.

[ours]: four settings a defense, each tried on an attack and on seeds that no reported number of a defense
uses; what counts is CA − ASR. UBT is tuned like all others, its variants take its settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils import profiles, stages
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import provenance, records
from ubt_utils.evaluate import measure
from ubt_utils.profiles import Profile
from ubt_utils.study import parallel
from ubt_utils.ubt.settings import UBT

ATTACK, SEEDS = "badnets_stripes", (100, 101)
FAILED = {"clean_accuracy": 0.0, "asr": 1.0, "target_recall": 0.0}
LR = (1.0, 3.0)  # times the profile's learning rate

STRENGTHS: Mapping[str, Mapping[str, Sequence[float]]] = {
    UBT: {"weight": (0.3, 1.0)},
    "cleanclip": {"weight": (1.0, 3.0)},
    "par": {"threshold": (0.5, 2.15)},
    "shrink_perturb": {"keep": (0.8, 0.9)},
    "pixel_prompt": {"repel": (1.0, 10.0)},
    "eftclip": {"weight": (1.0, 3.0)},
}
MORE_LR = (0.3, 1.0, 3.0, 10.0)  # for defenses without a strength
SCALES = (0.3, 1.0, 3.0, 10.0)  # for negation, which has no learning rate
ALONE = ("finetune", "supervised", "linear_probe")


@dataclass(frozen=True)
class Trial:
    """One setting of one defense with one held-out seed."""

    defense: str
    setting: Mapping[str, float]
    seed: int


def settings(profile: Profile, defense: str) -> list[dict[str, float]]:
    """The four settings of a defense; ValueError for one that is not tuned."""
    base = profile.unlearn.recipe.lr if defense == UBT else profile.baseline.lr
    if defense == "negation":
        return [{"scale": scale} for scale in SCALES]
    if defense in ALONE:
        return [{"lr": base * factor} for factor in MORE_LR]
    if defense not in STRENGTHS:
        raise ValueError(f"{defense!r} is not tuned; tuned: {', '.join(tuned())}")
    ((option, values),) = STRENGTHS[defense].items()
    return [{"lr": base * factor, option: value} for factor, value in product(LR, values)]


def tuned() -> tuple[str, ...]:
    """Every defense that is tuned."""
    return (*STRENGTHS, *ALONE, "negation")


def trials(profile: Profile, defenses: Sequence[str]) -> list[Trial]:
    """All trials of these defenses, those of one seed together."""
    return [Trial(d, s, seed) for seed in SEEDS for d in defenses for s in settings(profile, d)]


def run(profile: Profile, trial: Trial) -> dict[str, Any]:
    """One trial as a row: CA, ASR and target recall at its end on the validation vendor, of which no number
    is reported; the worst there is where the training diverged."""
    key = {"defense": trial.defense, "setting": json.dumps(trial.setting), "seed": trial.seed}
    attempt = stages.chain(at(profile, trial), ATTACK, trial.seed)
    key["f0"] = records.content_of(attempt.pretrained.contents)
    try:
        made = attempt.defended(trial.defense)
    except TrainingDiverged:
        key["commit"] = provenance.commit()
        return {**key, **FAILED, "stage": ""}
    measured = measure.full(attempt.model(made), attempt.profile, attempt.trigger, split=measure.VALIDATION)
    last = {name: measured[name] for name in FAILED}
    return {**key, "commit": made.made["commit"], **last, "stage": made.folder.name}


def at(profile: Profile, trial: Trial) -> Profile:
    """The profile with that trial's setting, where that defense has its settings."""
    if trial.defense != UBT:
        return replace(profile, defenses={trial.defense: trial.setting})
    setting: dict[str, Any] = dict(trial.setting)
    recipe = replace(profile.unlearn.recipe, lr=setting.pop("lr"))
    return replace(profile, unlearn=replace(profile.unlearn, recipe=recipe, **setting))


def run_all(profile: str, defenses: Sequence[str], workers: int = 1) -> pd.DataFrame:
    """All trials of these defenses, a row each; after a kill the same call goes on."""
    setting = profiles.get(profile)
    asked = trials(setting, defenses)
    return pd.DataFrame(parallel.each(partial(run, setting), asked, workers, "tune", "trial"))


def choose(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Per defense the setting of the largest CA − ASR, mean over seeds; the first one where some tie."""
    score = (table.clean_accuracy - table.asr).groupby([table.defense, table.setting], sort=False).mean()
    best = score.groupby("defense", sort=False).idxmax()
    return {defense: json.loads(setting) for defense, setting in best}


def write(profile: str, table: pd.DataFrame) -> Path:
    """Record the trials under results/<family>/; those of other defenses stay."""
    path = records.table_path(profiles.get(profile).family, records.TUNING)
    return records.merge(path, table, ["defense", "setting", "seed"])
