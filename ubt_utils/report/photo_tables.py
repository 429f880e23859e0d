"""What carries over from one profile to another, as tables from the records. Loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ubt_utils.profiles.base import DEFENDED, Profile
from ubt_utils.report import evidence, tables

RETRIEVAL = tuple(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10))
HARM = ("clean_accuracy", "target_recall", "image_to_text_r5", "text_to_image_r5", "linear_probe")
MEASURED = ("asr", "clean_accuracy", "target_recall", "precision_at_64", "seconds")


def _wide(profile: str) -> pd.DataFrame:
    return tables.wide(tables.rows(profile))


def side_by_side(first: str, second: str) -> pd.DataFrame:
    """Mean over seeds of MEASURED for the attacks that both profiles have defended.

    Index (attack, defense, profile); fractions 0–1, seconds in s.
    """
    wides = {profile: _wide(profile) for profile in (first, second)}
    both = set.intersection(*({a for a, d, _ in t.index if d == "ubt"} for t in wides.values()))
    parts = [
        table.loc[sorted(both)].groupby(["attack", "defense"])[list(MEASURED)].mean().assign(profile=name)
        for name, table in wides.items()
    ]
    return pd.concat(parts).set_index("profile", append=True).sort_index(kind="stable")


def harm(profile: str, metrics: tuple[str, ...] = HARM) -> pd.DataFrame:
    """What each model is worth beside the attack: means over attacks' seeds, as fractions.

    Rows: public f0, clean twin, then (attack, model) for undefended, finetune and ubt.
    """
    wide = _wide(profile)
    undefended = wide.xs("none", level="defense")
    rows = {
        ("–", "public f0"): undefended[[f"public_{m}" for m in metrics]].mean().set_axis(metrics),
        ("–", "clean twin"): undefended.loc["none"][list(metrics)].mean(),
    }
    defended = sorted({a for a, d, _ in wide.index if d == "ubt"})
    for attack in defended:
        for defense, title in (("none", "backdoored"), ("finetune", "finetune"), ("ubt", "ubt")):
            rows[attack, title] = wide.loc[(attack, defense)][list(metrics)].mean()
    return pd.DataFrame(rows).T.rename_axis(["attack", "model"])


def loss(profile: str, defense: str = "ubt", metrics: tuple[str, ...] = HARM) -> pd.DataFrame:
    """Points that a defense takes (−) or gives (+), against the backdoored model of the same seed:
    mean per attack."""
    wide = _wide(profile)
    change = 100 * (wide.xs(defense, level="defense") - wide.xs("none", level="defense"))
    groups = change[list(metrics)].dropna().groupby("attack")
    return groups.mean()


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


def selected(profile: str) -> pd.DataFrame:
    """What detection came to, per attack and seed: the part of the poison that the pool holds, the words that
    were found, the word that plain surprise in the pool would have named (in records from before disturbances
    were tried), the tokens B, how many of the chosen pairs are poisoned; and outside the pool how many pairs
    are, and how many were left out.
    """
    rows = {
        (r["attack"], r["seed"]): {
            "poison in the pool": r["pool_recall"],
            "vote": ", ".join(_words(r)),
            "plain surprise": r.get("plain_anchor"),
            "B": ", ".join(r["tokens"]),
            "chosen": r["chosen"],
            "poisoned": r["chosen_poisoned"],
            "poisoned outside": r["outside_poisoned"],
            "left out": r["left_out"],
            "poisoned of these": r["left_out_poisoned"],
        }
        for r in evidence.read(profile)
        if _words(r)
    }
    return pd.DataFrame(rows).T.rename_axis(["attack", "seed"])


def _words(record: Mapping[str, Any]) -> list[str]:
    """The words that detection found; in older records, the one that it always named."""
    return record.get("anchors") or ([record["anchor"]] if record.get("anchor") else [])


def curves(profile: str) -> pd.DataFrame:
    """The path of each defense, from the records: attack, defense, seed, step, and the rates there."""
    rows = [
        {"attack": r["attack"], "defense": r["defense"], "seed": r["seed"], **point}
        for r in evidence.read(profile)
        for point in r.get("curve", ())
    ]
    return pd.DataFrame(rows)


def worst(profile: str) -> pd.DataFrame:
    """The seed on which each defense did worst, per attack and metric: highest ASR, lowest others.

    Index (attack, defense); fractions 0–1. What a mean over seeds hides.
    """
    groups = _wide(profile).drop("none", level="attack").groupby(["attack", "defense"])
    table = groups[[*HARM, "precision_at_64"]].min()
    table.insert(0, "asr", groups["asr"].max())
    return table.drop("none", level="defense")
