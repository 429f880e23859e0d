"""Exercises of notebooks 05 to 08: numbers, each computed from the kit."""

from __future__ import annotations

import torch
from statsmodels.stats.multitest import multipletests

from ubt_utils import profiles
from ubt_utils.evaluate import metrics
from ubt_utils.kernels.prefixes import tree
from ubt_utils.own import evidence, null
from ubt_utils.report.exercises.base import Value


def _exact_upper() -> float:
    return metrics.rate(torch.zeros(99, dtype=torch.bool)).high


def _corrected() -> float:
    others = len(profiles.get("mini").defenses)
    return float(multipletests([0.01] + [0.5] * (others - 1), method="holm")[1][0])


def _poisoned_sights() -> float:
    profile = profiles.get("photos")
    return profile.finetune.steps * profile.finetune.batch * profile.poison_rate


TASKS: dict[str, Value] = {
    "05.1": Value(_exact_upper),
    "05.2": Value(_corrected),
    "06.1": Value(_poisoned_sights),
    "06.2": Value(lambda: 5 / 1000),
    "07.1": Value(lambda: 2 * 4 * 32_768**2 / 2**30),
    "07.2": Value(lambda: len(tree(8).source)),
    "08.1": Value(lambda: 1 / (1 + null.DRAWS)),
    "08.2": Value(lambda: 0.54 / evidence.CLEARLY),
}
