"""Made-up trials of tuning whose answer is known, for those who make tables and pictures of them."""

import json
import math

import pandas as pd

VICTIMS = (("dots", 100), ("picture", 101), ("dots", 101), ("picture", 100))
GENTLE = {"lr": 1e-3, "part": 0.1, "freeze_norm": False, "threshold": 1.0}
STRONG = GENTLE | {"lr": 2e-2}  # the highest there is
SOURCE = {"lr": 3.75e-3, "passes": 10, "freeze_norm": False, "threshold": 2.15}
TRIALS = [  # defense, setting, and of each victim that it met ASR, CA and what it paid
    ("par", GENTLE, [(0.10, 0.60, 0.1), (0.02, 0.60, 0.1), (0.02, 0.60, 0.1), (0.02, 0.60, 0.1)]),
    ("par", STRONG, [(0.05, 0.40, 0.1), (0.01, 0.42, 0.2), (0.00, 0.40, 0.1), (0.02, 0.42, 0.2)]),
    ("par", SOURCE, [(0.00, 0.50, 0.3), (0.04, 0.54, 0.3)]),  # the better, but met two victims alone
    ("ubt", {"lr": 1e-3, "weight": 0.3}, [(0.0, 0.39, 0.2)] * 4),
    ("negation", {"scale": 1.0}, [(0.90, 0.70, 0.02), (0.80, 0.50, 0.02)] * 2),
    ("negation", {"scale": 9.9}, [(1.0, 0.0, math.nan)] * 2),  # diverged
]


def trials(given=TRIALS) -> pd.DataFrame:
    return pd.DataFrame(
        {"defense": defense, "setting": json.dumps(setting), "attack": attack, "seed": seed, "f0": "one",
         "asr": asr, "clean_accuracy": ca, "paid": paid}
        for defense, setting, met in given
        for (attack, seed), (asr, ca, paid) in zip(VICTIMS, met, strict=False)
    )  # fmt: skip
