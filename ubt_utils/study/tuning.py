"""How every defense gets its settings: the same number of trials, on attacks and seeds kept for that.

[ours]: each defense has ranges for its learning rate, its length, its norm mode and what is its own. Points
of a Halton sequence over these, and the setting of its source where one is known, are tried on two attacks
that no table uses, and measured on the validation vendor, of which no number is reported. The rule: of the
settings whose ASR is at most 5 % on every victim the one of the highest clean accuracy; where there is none,
the one of the lowest mean ASR. The best by this rule, and the best of those that pay a fifth of the victim's
cost at most, are tried on the same attacks of another seed, and the rule chooses among them by all four
victims: once for that budget, once for any. UBT is tuned like all others, its variants take its settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import qmc

from ubt_utils import profiles, stages
from ubt_utils.baselines import defenses
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import provenance, records
from ubt_utils.evaluate import measure
from ubt_utils.profiles import Profile
from ubt_utils.study import parallel
from ubt_utils.ubt.settings import UBT

DOTS, PICTURE = "badnets_dots", "blended_picture"
FIRST, SECOND = ((DOTS, 100), (PICTURE, 101)), ((DOTS, 101), (PICTURE, 100))  # victims: attack and seed
TRIALS = 20  # settings of each defense, beside its source's
QUICK = 0.2  # of the victim's cost: the budget of the study's first table, detection included
FINALISTS = 5  # of them, and of those within QUICK, meet the second two victims
BAR = 0.05  # the highest ASR of a setting that holds
END = 0.05  # of a range: who chooses a value so near to its end would perhaps have gone beyond it
FAILED = {"clean_accuracy": 0.0, "asr": 1.0, "target_recall": 0.0}
Value = float | bool
Victim = tuple[str, int]


@dataclass(frozen=True)
class Span:
    """A range of numbers, drawn from by their logarithm."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """The number at u in [0, 1), to three digits."""
        return float(f"{self.low * (self.high / self.low) ** u:.3g}")

    def place(self, value: float) -> float:
        """Where a number lies, 0 at the low end and 1 at the high one."""
        return math.log(value / self.low) / math.log(self.high / self.low)


Range = Span | tuple[Value, ...]  # or one of some values, each as likely
SHORT = {"lr": Span(1e-4, 1e-2), "part": Span(0.02, 0.5)}  # part: of the victim's cost, see `plan_of`
TRAINED: Mapping[str, Range] = {**SHORT, "freeze_norm": (True, False)}
RANGES: Mapping[str, Mapping[str, Range]] = {
    UBT: {**TRAINED, "weight": Span(0.03, 10)},
    "finetune": TRAINED,
    "cleanclip": {**TRAINED, "weight": Span(0.3, 10)},
    "par": {**TRAINED, "threshold": Span(0.3, 3)},
    "shrink_perturb": {**TRAINED, "keep": (0.6, 0.7, 0.8, 0.9, 0.95)},
    "eftclip": {**TRAINED, "lr": Span(3e-4, 1e-2), "weight": Span(0.3, 10)},
    "supervised": TRAINED,
    "linear_probe": {**SHORT, "lr": Span(1e-3, 1e-1)},
    "pixel_prompt": {**SHORT, "lr": Span(1e-3, 1e-1), "repel": Span(0.1, 10)},
    "ft_sam": {**TRAINED, "rho": Span(0.5, 8)},
    "anp": {**SHORT, "lr": Span(5e-3, 5e-2), "eps": Span(0.05, 0.4), "portion": Span(0.02, 0.2)},
    "negation": {"scale": Span(0.1, 10)},
    "invertune": {**TRAINED, "lr": Span(2e-5, 2e-3), "keep": Span(0.2, 8)},
    "tbar": {**TRAINED, "lr": Span(1e-6, 1e-3), "scale": Span(0.1, 10)},
    "cbpt": {**SHORT, "lr": Span(5e-4, 1e-1), "repel": Span(0.1, 30)},
}
# A source's norm mode and passes over D_safe; FT-SAM's 100 epochs over 5 % of the data are 5 of them. The
# rate is the victim's own, or three times that for PAR, which starts high: rates of CLIP's ResNet mean
# nothing to mini's. UBT's is the setting from before it was tuned.
TEN = {"lr": 1.25e-3, "passes": 10, "freeze_norm": False}
PUBLISHED: Mapping[str, Mapping[str, Value]] = {
    UBT: {"lr": 5e-4, "part": 0.0919, "freeze_norm": True, "weight": 0.3},  # 60 steps, as in the first rounds
    "finetune": TEN,
    "cleanclip": {**TEN, "weight": 1.0},
    "par": {**TEN, "lr": 3.75e-3, "threshold": 2.15},
    "supervised": TEN,
    "ft_sam": {**TEN, "passes": 5, "rho": 2.0},
}


@dataclass(frozen=True)
class Trial:
    """One setting of one defense against one victim."""

    defense: str
    setting: Mapping[str, Value]
    attack: str
    seed: int


def tuned() -> tuple[str, ...]:
    """Every defense that is tuned."""
    return tuple(RANGES)


def ranges_of(defense: str) -> Mapping[str, Range]:
    """The ranges of a defense, the same whether it has D_safe or is given pairs; ValueError for one that is
    not tuned."""
    name = defenses.get(defense).name.removesuffix(f"-{defenses.get(defense).given}")
    if name not in RANGES:
        raise ValueError(f"{defense!r} is not tuned; tuned: {', '.join(tuned())}")
    return RANGES[name]


def settings(defense: str, count: int = TRIALS) -> list[dict[str, Value]]:
    """The settings of a defense that are tried, the same ones each time, its source's last; ValueError for
    one that is not tuned."""
    ranges = ranges_of(defense)
    points = qmc.Halton(len(ranges), scramble=False).random(count + 1)[1:]  # the first is the low end of all
    drawn = [
        {name: _drawn(one, u) for (name, one), u in zip(ranges.items(), point, strict=True)}
        for point in points
    ]
    return drawn + [dict(PUBLISHED[name]) for name in (defense,) if name in PUBLISHED]


def _drawn(one: Range, u: float) -> Value:
    return one.at(u) if isinstance(one, Span) else one[int(u * len(one))]


def trials(wanted: Mapping[str, Sequence[Mapping[str, Value]]], victims: Sequence[Victim]) -> list[Trial]:
    """All trials of these settings of each defense; neighbors are of different victims, so that workers do
    not wait for one another's stages."""
    return [
        Trial(name, one, attack, seed) for name in wanted for one in wanted[name] for attack, seed in victims
    ]


def run(profile: Profile, trial: Trial) -> dict[str, Any]:
    """One trial as a row: CA, ASR and target recall at its end on the validation vendor, and what it paid as
    a part of the victim's cost; the worst there is where the training diverged."""
    row = {
        "defense": trial.defense,
        "setting": json.dumps(trial.setting),
        "attack": trial.attack,
        "seed": trial.seed,
    }
    attempt = stages.chain(at(profile, trial), trial.attack, trial.seed)
    row["f0"] = records.content_of(attempt.pretrained.contents)
    try:
        made = attempt.defended(trial.defense)
    except TrainingDiverged:
        return {**row, "commit": provenance.commit(), **FAILED, "paid": math.nan, "stage": ""}
    measured = measure.full(attempt.model(made), attempt.profile, attempt.trigger, split=measure.VALIDATION)
    last = {name: measured[name] for name in FAILED}
    paid = made.metrics["curve"][-1]["part"]
    return {**row, "commit": made.made["commit"], **last, "paid": paid, "stage": made.folder.name}


def at(profile: Profile, trial: Trial) -> Profile:
    """The profile with that trial's setting, where that defense has its settings."""
    if trial.defense != UBT:
        return replace(profile, defenses={trial.defense: trial.setting})
    setting: dict[str, Any] = dict(trial.setting)
    how, victim = profile.unlearn.recipe, profile.recipe(trial.attack)
    pays = setting.pop("part") * victim.steps * victim.batch  # beside detection, which it pays for as well
    steps = max(1, round(pays / (how.batch + profile.select.top)))
    recipe = replace(how, steps=steps, lr=setting.pop("lr"), freeze_norm=setting.pop("freeze_norm"))
    return replace(profile, unlearn=replace(profile.unlearn, recipe=recipe, **setting))


def run_all(profile: str, names: Sequence[str], count: int, workers: int = 1) -> pd.DataFrame:
    """All trials of these defenses, a row each; after a kill the same call goes on."""
    work = partial(run, profiles.get(profile))
    begun = trials({name: settings(name, count) for name in names}, FIRST)
    table = pd.DataFrame(parallel.each(work, begun, workers, "tune", "trial"))
    ended = trials({name: finalists(part) for name, part in table.groupby("defense", sort=False)}, SECOND)
    more = parallel.each(work, ended, workers, "tune on other victims", "trial")
    return pd.concat([table, pd.DataFrame(more)], ignore_index=True)


def finalists(table: pd.DataFrame) -> list[dict[str, Value]]:
    """The best settings of one defense, and the best of those within QUICK, each once."""
    quick = table[table.groupby("setting").paid.transform("max") <= QUICK]
    best = dict.fromkeys([*ranked(table)[:FINALISTS], *ranked(quick)[:FINALISTS]])
    return [json.loads(one) for one in best]


def ranked(table: pd.DataFrame) -> list[str]:
    """The settings of one defense, by the rule at the top of this file; in the order of the trials where some
    tie."""
    over = table.groupby("setting", sort=False)
    found = over.agg(asr=("asr", "mean"), worst=("asr", "max"), clean_accuracy=("clean_accuracy", "mean"))
    holds = found.worst <= BAR
    within = found[holds].sort_values("clean_accuracy", ascending=False, kind="stable")
    return [*within.index, *found[~holds].sort_values("asr", kind="stable").index]


def choose(table: pd.DataFrame, most: float = math.inf) -> dict[str, dict[str, Value]]:
    """Per defense the setting that is chosen, of those that met every victim and paid `most` of its cost at
    most, detection included; no entry for a defense of which none did."""
    chosen = {}
    for name, part in table.groupby("defense", sort=False):
        over = part.groupby("setting")
        met, paid = over.setting.transform("size"), over.paid.transform("max")
        within = part[(met == len(FIRST + SECOND)) & (paid <= most)]
        if len(within):
            chosen[name] = json.loads(ranked(within)[0])
    return chosen


def at_an_end(defense: str, setting: Mapping[str, Value]) -> list[str]:
    """Which of a setting's numbers lie at an end of their range."""
    spans = {name: one for name, one in ranges_of(defense).items() if isinstance(one, Span)}
    return [
        name
        for name, span in spans.items()
        if name in setting and not END <= span.place(setting[name]) <= 1 - END
    ]


def write(profile: str, table: pd.DataFrame) -> Path:
    """Record the trials under results/<family>/; those of other defenses stay."""
    path = records.table_path(profiles.get(profile).family, records.TUNING)
    return records.merge(path, table, ["defense", "setting", "attack", "seed"])
