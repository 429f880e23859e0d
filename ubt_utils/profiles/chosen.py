"""What the recorded trials choose for the defenses of mini, by question (`evaluate.choice`), and of photos.

`python -m ubt_utils tune` makes the trials, in results/<family>/tuning.parquet, and prints the answers; a
test holds these to be them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ubt_utils.ubt.settings import UBT

Setting = Mapping[str, float | bool]
CHOSEN: Mapping[str, Mapping[str, Setting]] = {
    "fifth": {
        UBT: {"lr": 0.00018, "part": 0.0587, "freeze_norm": True, "weight": 0.762},
        "cleanclip": {"lr": 0.00358, "part": 0.153, "freeze_norm": False, "weight": 1.37},
        "eftclip": {"lr": 0.000711, "part": 0.0968, "freeze_norm": True, "weight": 0.623},
        "finetune": {"lr": 0.00444, "part": 0.0919, "freeze_norm": False},
        "par": {"lr": 0.00172, "part": 0.166, "freeze_norm": False, "threshold": 1.22},
    },
    "long": {
        UBT: {"lr": 0.0005, "part": 0.0919, "freeze_norm": True, "weight": 0.3},
        "cleanclip": {"lr": 0.0025, "passes": 10, "freeze_norm": False, "weight": 1.0},
        "eftclip": {"lr": 0.000711, "part": 0.0968, "freeze_norm": True, "weight": 0.623},
        "finetune": {"lr": 0.00444, "part": 0.0919, "freeze_norm": False},
        "par": {"lr": 0.00375, "passes": 10, "freeze_norm": False, "threshold": 2.15},
    },
    # Of all settings, where the answer is another one: these may be wrecks.
    "fifth-all": {
        "cleanclip": {"lr": 0.0069, "part": 0.109, "freeze_norm": False, "weight": 0.892},
        "eftclip": {"lr": 0.00509, "part": 0.105, "freeze_norm": False, "weight": 1.58},
        "finetune": {"lr": 0.00857, "part": 0.182, "freeze_norm": False},
        "par": {"lr": 0.00291, "part": 0.128, "freeze_norm": False, "threshold": 2.35},
    },
    "long-all": {
        "cleanclip": {"lr": 0.0069, "part": 0.109, "freeze_norm": False, "weight": 0.892},
        "eftclip": {"lr": 0.00509, "part": 0.105, "freeze_norm": False, "weight": 1.58},
        "finetune": {"lr": 0.00857, "part": 0.182, "freeze_norm": False},
    },
}
# Of photos: those that mend at a fifth of the victim's cost. Empty: nothing has been tried there yet.
ON_PHOTOS: Mapping[str, Setting] = {}
