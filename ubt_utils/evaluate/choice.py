"""Which of the settings that were tried is chosen.

The rule [ours]: of the settings whose ASR is at most 5 % on every victim the one of the highest clean
accuracy; where there is none, the one of the lowest mean ASR. So it may choose a model that has forgotten
everything. The rule is therefore asked a second time among the settings that *mend*: that cost 5 points of
the undefended model's clean accuracy at most, as a mean over victims, and, where the trials know it, as much
of its target recall.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from ubt_utils.evaluate import statistics

MENDS = 0.05  # the most clean accuracy, and target recall, that a setting may cost which mends
QUICK = 0.2  # of the victim's cost: the budget of the study's first table, detection included
# What is asked of the trials, by name: what a setting may pay at most, as a part of the victim's cost, and
# whether it must mend.
QUESTIONS = {
    "fifth": (QUICK, True),
    "fifth-all": (QUICK, False),
    "long": (math.inf, True),
    "long-all": (math.inf, False),
}


def over_victims(table: pd.DataFrame) -> pd.DataFrame:
    """The settings of one defense in the order of their trials: how many victims each met, mean (asr) and
    worst ASR, mean clean accuracy, what of the undefended model's it lost (lost), what of its target recall
    (forgot), and what it paid on average (all three NaN where it is not known); table: a row a trial."""
    over = table.groupby("setting", sort=False)
    found = over.agg(
        victims=("asr", "size"), asr=("asr", "mean"), worst=("asr", "max"),
        clean_accuracy=("clean_accuracy", "mean"),
    )  # fmt: skip
    paid = over.paid.mean() if "paid" in table else np.nan
    undefended = over.undefended.mean() if "undefended" in table else np.nan
    forgot = (over.known.mean() - over.target_recall.mean()) if "known" in table else np.nan
    return found.assign(paid=paid, lost=undefended - found.clean_accuracy, forgot=forgot)


def met_all(found: pd.DataFrame) -> pd.Series:
    """Which settings met every victim that any of them did; found: `over_victims`."""
    return found.victims == found.victims.max()


def ranked(found: pd.DataFrame) -> list[str]:
    """The settings of one defense, the best by the rule first, in the order of the trials where some tie;
    found: `over_victims`."""
    holds = found.worst <= statistics.BAR
    within = found[holds].sort_values("clean_accuracy", ascending=False, kind="stable")
    return [*within.index, *found[~holds].sort_values("asr", kind="stable").index]


def within(found: pd.DataFrame, most: float = math.inf, mends: bool = False) -> pd.DataFrame:
    """The settings that paid `most` of the victim's cost at most, all of it, and, if asked, that mend; found:
    `over_victims`."""
    harms = (found.lost > MENDS) | (found.forgot > MENDS)
    return found[~(found.paid > most) & ~(harms & mends)]


def chosen(found: pd.DataFrame, most: float = math.inf, mends: bool = False) -> str:
    """The best setting of one defense, of those `within` that met every victim; "" where none did. found:
    `over_victims`."""
    return next(iter(ranked(within(found[met_all(found)], most, mends))), "")


def choose(table: pd.DataFrame, most: float = math.inf, mends: bool = False) -> dict[str, dict[str, Any]]:
    """Per defense the setting that is `chosen`, where there is one; table: a row a trial."""
    every = table.groupby("defense", sort=False)
    found = {name: chosen(over_victims(part), most, mends) for name, part in every}
    return {name: json.loads(setting) for name, setting in found.items() if setting}
