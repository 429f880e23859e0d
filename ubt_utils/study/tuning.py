"""How every defense gets its settings: the same number of trials, on attacks and seeds kept for that.

[ours]: each defense has ranges for its learning rate, its length, its norm mode and what is its own. Points
of a Halton sequence over these, all within the study's budget, and the setting of its source at three rates
where one is known, are tried on two attacks that the rivals' tables do not use, and measured on the
validation vendor, of which no number is reported. The best by the rule of `evaluate.choice`, for that budget
and for any, of all settings and of those that mend, are tried on the same attacks of another seed, and the
rule chooses among them by all four victims. UBT is tuned like all others, its variants take its settings.
On another family than mini the setting that mini's trials chose is tried beside them, before the drawn ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import qmc

from ubt_utils import profiles, stages
from ubt_utils.baselines.ranges import Range, Span, Value, base_of, known, ranges_of
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import provenance, records
from ubt_utils.core.seeding import generator
from ubt_utils.evaluate import choice, measure
from ubt_utils.profiles import Profile
from ubt_utils.profiles.chosen import CHOSEN
from ubt_utils.profiles.mini import MINI
from ubt_utils.profiles.tuned import unlearn_at
from ubt_utils.study import parallel
from ubt_utils.ubt.settings import UBT

BLEND, STAMP = "blended_stripes", "text_on_image"  # trained at the rate of most victims
FIRST, SECOND = ((BLEND, 100), (STAMP, 101)), ((BLEND, 101), (STAMP, 100))  # victims: attack and seed
VICTIMS = tuple(sorted((*FIRST, *SECOND)))
TRIALS = 20  # settings of each defense, beside its source's
FINALISTS = 4  # for each question of `choice`, which meet the second two victims
FAILED = {"clean_accuracy": 0.0, "asr": 1.0, "target_recall": 0.0}
Victim = tuple[str, int]


@dataclass(frozen=True)
class Trial:
    """One setting of one defense against one victim."""

    defense: str
    setting: Mapping[str, Value]
    attack: str
    seed: int


def settings(
    defense: str,
    rate: float,
    count: int = TRIALS,
    sources: bool = True,
    slower: float = 1.0,
    frozen: bool = False,
) -> list[dict[str, Value]]:
    """The settings of a defense that are tried, the same ones each time, and after them, with `sources`,
    those that are known beforehand; rate: the victims'; slower, frozen: see `ranges_of`. ValueError for a
    defense that is not tuned."""
    found = ranges_of(defense, slower, frozen)
    key = ("settings", base_of(defense), *(("frozen",) if frozen else ()))
    seed = generator(*key).initial_seed() % 2**32  # else all would share their rates
    points = qmc.Halton(len(found), seed=seed).random(count)
    drawn = [
        {name: _drawn(one, u) for (name, one), u in zip(found.items(), point, strict=True)}
        for point in points
    ]
    return drawn + (known(defense, rate) if sources else [])


def _drawn(one: Range, u: float) -> Value:
    return one.at(u) if isinstance(one, Span) else one[int(u * len(one))]


def carried(family: str, defense: str) -> list[dict[str, Value]]:
    """What mini's trials chose for a defense at a fifth of the victim's cost, for trials of another
    family."""
    elsewhere = family != MINI.family and defense in CHOSEN["fifth"]
    return [dict(CHOSEN["fifth"][defense])] if elsewhere else []


def trials(wanted: Mapping[str, Sequence[Mapping[str, Value]]], victims: Sequence[Victim]) -> list[Trial]:
    """All trials of these settings of each defense; neighbors are of different victims, so that workers do
    not wait for one another's stages."""
    return [
        Trial(name, one, attack, seed) for name in wanted for one in wanted[name] for attack, seed in victims
    ]


def run(profile: Profile, trial: Trial) -> dict[str, Any]:
    """One trial as a row: CA, ASR and target recall at its end on the validation vendor, CA (undefended) and
    target recall (known) before, and what it paid as a part of the victim's cost; the worst there is where
    the training diverged."""
    row = {
        "defense": trial.defense,
        "setting": json.dumps(trial.setting),
        "attack": trial.attack,
        "seed": trial.seed,
    }
    attempt = stages.chain(at(profile, trial), trial.attack, trial.seed)
    row["f0"] = records.content_of(attempt.pretrained.contents)
    before = undefended(profile.name, trial.attack, trial.seed)
    row["undefended"], row["known"] = before["clean_accuracy"], before["target_recall"]
    try:
        made = attempt.defended(trial.defense)
    except TrainingDiverged:
        return {**row, "commit": provenance.commit(), **FAILED, "paid": math.nan, "stage": ""}
    measured = measure.full(attempt.model(made), attempt.profile, attempt.trigger, split=measure.VALIDATION)
    last = {name: measured[name] for name in FAILED}
    paid = made.metrics["paid"]
    return {**row, "commit": made.made["commit"], **last, "paid": paid, "stage": made.folder.name}


@lru_cache(maxsize=8)
def undefended(profile: str, attack: str, seed: int) -> dict[str, Any]:
    """What a victim has of clean accuracy, target recall and more on the validation vendor."""
    run = stages.chain(profiles.get(profile), attack, seed)
    return measure.full(run.model(run.attacked), run.profile, None, split=measure.VALIDATION)


def at(profile: Profile, trial: Trial) -> Profile:
    """The profile with that trial's setting, where that defense has its settings."""
    if trial.defense != UBT:
        return replace(profile, defenses={trial.defense: trial.setting})
    return replace(profile, unlearn=unlearn_at(profile, trial.setting))


def run_all(
    profile: str,
    names: Sequence[str],
    count: int,
    workers: int = 1,
    sources: bool = True,
    slower: float = 1.0,
    frozen: bool = False,
) -> pd.DataFrame:
    """All trials of these defenses, a row each; after a kill the same call goes on. sources: with the
    settings that are known beforehand. slower, frozen: see `ranges_of`; with other rates, what mini's trials
    chose is not tried again."""
    setting = profiles.get(profile)
    work, rate = partial(run, setting), setting.recipe(BLEND).lr
    again = {name: carried(setting.family, name) if slower == 1 else [] for name in names}
    wanted = {name: again[name] + settings(name, rate, count, sources, slower, frozen) for name in names}
    begun = trials(wanted, FIRST)
    table = pd.DataFrame(parallel.each(work, begun, workers, "tune", "trial"))
    ended = trials({name: finalists(part) for name, part in table.groupby("defense", sort=False)}, SECOND)
    more = parallel.each(work, ended, workers, "tune on other victims", "trial")
    return pd.concat([table, pd.DataFrame(more)], ignore_index=True)


def finalists(table: pd.DataFrame) -> list[dict[str, Value]]:
    """The best settings of one defense for each of the rule's questions, each once."""
    found, best = choice.over_victims(table), list[str]()
    for most, mends in choice.QUESTIONS.values():
        best += choice.ranked(choice.within(found, most, mends))[:FINALISTS]
    return [json.loads(one) for one in dict.fromkeys(best)]


def write(profile: str, table: pd.DataFrame) -> Path:
    """Record the trials under results/<family>/; those of other defenses stay."""
    path = records.table_path(profiles.get(profile).family, records.TUNING)
    return records.merge(path, table, ["defense", "setting", "attack", "seed"])
