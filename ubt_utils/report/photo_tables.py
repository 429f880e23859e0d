"""What carries over from drawings to photos, as tables from the study's records. Loads no model. Rates are
fractions 0–1, and so are differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ubt_utils.core.records import NONE
from ubt_utils.profiles.base import DEFENDED, Profile
from ubt_utils.report import study_tables
from ubt_utils.report.study_tables import RETAIN, TWIN, Among
from ubt_utils.ubt.settings import UBT

FIVE = ("image_to_text_r5", "text_to_image_r5")
HARM = ("clean_accuracy", "target_recall", *FIVE, "linear_probe")
FOUND = ("image_to_text_asr", "text_to_image_asr")  # retrieval ASR, both ways
CARRIED = ("asr", "clean_accuracy", "target_recall")
TAKES, WANTED = (
    0.8,
    5,
)  # mean ASR undefended of an attack that takes, and how many shall: results/ENDPOINTS.md
RECALL_MARGIN, SECONDS = 0.05, 0.25  # what may be lost of the target, and what may be paid


def settings(first: Profile, second: Profile) -> pd.DataFrame:
    """The two profiles in words, side by side: what differs before anything is run."""
    return pd.DataFrame({p.name: _setting(p) for p in (first, second)})


def _setting(profile: Profile) -> dict[str, str]:
    sets, recipe = profile.sets, profile.finetune
    classes = len(sets.class_names())
    tower = f"pretrained ({profile.tower}), locked" if profile.tower else "from nothing, with the text tower"
    part = f"all but the stem and {profile.locked} stages" if profile.locked else "all of it"
    found = {
        "pictures": f"{sets.size} px",
        "classes": f"{classes}; chance {1 / classes:.1%}",
        "target": sets.target,
        "image tower of f0": tower,
        "image tower that the victim trains": part,
        "victim": f"{recipe.steps} steps of {recipe.batch}, learning rate {recipe.lr:g}",
        "poison rate": f"{profile.poison_rate:.1%}",
        "caption noise": f"{sets.noise:.0%}",
    }
    for name in DEFENDED:
        found |= _strength(profile, name)
    return found


def _strength(profile: Profile, name: str) -> dict[str, str]:
    trigger = profile.trigger(name)
    return {f"{name} {trigger.strength}": f"{getattr(trigger, trigger.strength):g}"}


def took(family: str, attacks: Sequence[str], profiles: Among = None) -> pd.DataFrame:
    """ASR undefended, a row a poison rate and attack: clusters, their mean, the lowest and the highest, and
    whether the mean is at least TAKES."""
    runs = study_tables.recorded(family, None, attacks, [NONE], profiles)
    found = runs.groupby(["poison_rate", "attack"]).agg(
        clusters=("cluster", "nunique"), asr=("asr", "mean"), lowest=("asr", "min"), highest=("asr", "max")
    )
    return found.assign(takes=found.asr >= TAKES)


def rulers(
    family: str,
    poison_rate: float,
    attacks: Sequence[str],
    defenses: Sequence[str],
    profiles: Among = None,
    metrics: Sequence[str] = HARM,
) -> pd.DataFrame:
    """What each model is still worth by every ruler, mean over the attacked runs: f0 and the clean twin, and
    every defense that has a run, in their order. Of the twin what was measured under the attack, else on its
    own; NaN where nothing was."""
    runs = study_tables.recorded(family, poison_rate, attacks, None, profiles)
    means = runs[list(metrics)].astype(float).groupby(level="defense").mean()
    beside = study_tables.untouched(family, poison_rate, attacks, profiles, metrics)
    alone = study_tables.recorded(family, None, [NONE], [NONE], profiles).reindex(columns=list(metrics))
    beside = beside.reindex(columns=list(metrics))
    beside.loc[TWIN] = beside.loc[TWIN].fillna(alone.astype(float).mean())
    return pd.concat([beside, means.reindex([name for name in defenses if name in means.index])]).rename_axis(
        "model"
    )


def carried(worlds: Mapping[str, pd.DataFrame], defenses: Sequence[str]) -> pd.DataFrame:
    """What each defense does in several worlds, on the attacks that all of them have: index (defense, world),
    CARRIED as means, and what each rate lost (−) or gained (+) against the undefended models of the same
    runs. worlds: by name, runs of `study_tables.recorded`."""
    both = set.intersection(*(set(runs.index.get_level_values("attack")) for runs in worlds.values()))
    rows = {}
    for world, runs in worlds.items():
        rates = runs[runs.index.isin(both, level="attack")][list(CARRIED)].astype(float)
        before = rates.xs(NONE, level="defense")
        for name in (NONE, *defenses):
            own = rates[rates.index.isin([name], level="defense")].droplevel("defense")
            if len(own):
                change = (own - before.loc[own.index]).mean().add_suffix("_change")
                rows[name, world] = {"runs": len(own), **own.mean(), **change}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["defense", "world"])
    order = {name: place for place, name in enumerate((NONE, *defenses))}
    return found.sort_index(level=0, key=lambda names: names.map(order), sort_remaining=False)


def endpoints(family: str, attacks: Sequence[str], profiles: Among = None) -> pd.DataFrame:
    """The primary endpoints of the round of photos, a row an endpoint and poison rate, those that are missed
    first; columns as in `study_tables.endpoints`, whose rows are among them. Recalls and seconds are means
    over runs, without an interval."""
    runs = study_tables.recorded(family, None, attacks, None, profiles)
    names = runs.index.get_level_values("defense")
    rows: dict[tuple[str, float], dict] = {}
    for rate, own in runs[names == UBT].groupby("poison_rate"):
        here = runs[runs.poison_rate == rate]
        size = {"runs": len(own), "clusters": own.cluster.nunique()}
        rows |= {
            (title, rate): {**size, **found} for title, found in (_took(here) | _beside(here, own)).items()
        }
    found = pd.concat([study_tables.endpoints(family, attacks, profiles), _frame(rows)])
    return found.sort_values("met", kind="stable")


def _frame(rows: Mapping[tuple[str, float], Mapping]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["endpoint", "poison_rate"])


def _took(runs: pd.DataFrame) -> dict[str, dict]:
    """How many attacks take, of those that are recorded."""
    means = runs.xs(NONE, level="defense").groupby(level="attack").asr.mean()
    count = int((means >= TAKES).sum())
    target = f"{WANTED}; recorded: {len(means)}"
    return {"attacks that take": {"value": count, "target": target, "met": count >= WANTED}}


def _beside(runs: pd.DataFrame, own: pd.DataFrame) -> dict[str, dict]:
    """UBT's recalls less those of retain only, of the undefended, and of the twin; and its seconds."""
    rows: dict[str, float] = {}
    for other, title in ((RETAIN, "retain only"), (NONE, "undefended")):
        rows |= {f"{name} less that of {title}": _less(runs, name, other) for name in FIVE}
    found = {title: _least(value, study_tables.CLEAN_MARGIN) for title, value in rows.items()}
    twin = runs.xs(NONE, level="defense").twin_target_recall.astype(float).mean()
    found["target recall less the twin's"] = _least(own.target_recall.mean() - twin, RECALL_MARGIN)
    part = float((own.seconds / own.victim_seconds).median())
    paid = {"value": part, "target": f"at most {SECONDS:.0%}", "met": part <= SECONDS}
    return found | {"seconds as a part of the victim's, median": paid}


def _less(runs: pd.DataFrame, metric: str, other: str) -> float:
    """UBT less another, mean over the runs that both have; NaN where there is none."""
    wide = runs[metric].astype(float).unstack("defense")
    return float((wide[UBT] - wide[other]).mean()) if other in wide else float("nan")


def _least(value: float, margin: float) -> dict:
    return {"value": value, "target": f"at least −{margin:.0%}", "met": value >= -margin}
