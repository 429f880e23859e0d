"""What the recorded trials choose for the defenses of mini, by question (`evaluate.choice`).

`python -m ubt_utils tune` makes the trials, in results/mini/tuning.parquet, and prints the answers; a test
holds these to be them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ubt_utils.ubt.settings import UBT

Setting = Mapping[str, float | bool]
CHOSEN: Mapping[str, Mapping[str, Setting]] = {
    "fifth": {
        UBT: {"lr": 1.8e-4, "part": 0.0587, "freeze_norm": True, "weight": 0.762},
        "cleanclip": {"lr": 0.00358, "part": 0.153, "freeze_norm": False, "weight": 1.37},
    },
    "long": {
        UBT: {"lr": 5e-4, "part": 0.0919, "freeze_norm": True, "weight": 0.3},
        "cleanclip": {"lr": 0.0025, "passes": 10, "freeze_norm": False, "weight": 1.0},
    },
    # Of all settings, where the answer is another one: these may be wrecks.
    "fifth-all": {"cleanclip": {"lr": 0.0069, "part": 0.109, "freeze_norm": False, "weight": 0.892}},
    "long-all": {"cleanclip": {"lr": 0.0069, "part": 0.109, "freeze_norm": False, "weight": 0.892}},
}
