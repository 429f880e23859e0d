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
        "anp": {"lr": 0.0102, "part": 0.108, "eps": 0.145, "portion": 0.0244},
        "cbpt": {"lr": 0.00412, "part": 0.068, "repel": 0.118},
        "cleanclip": {"lr": 0.00358, "part": 0.153, "freeze_norm": False, "weight": 1.37},
        "eftclip": {"lr": 0.000711, "part": 0.0968, "freeze_norm": True, "weight": 0.623},
        "finetune": {"lr": 0.00444, "part": 0.0919, "freeze_norm": False},
        "ft_sam": {"lr": 0.000383, "part": 0.0951, "freeze_norm": True, "rho": 0.587},
        "invertune": {"lr": 0.000428, "part": 0.0448, "freeze_norm": True, "keep": 1.97},
        "linear_probe": {"lr": 0.00801, "part": 0.085},
        "negation": {"scale": 0.128},
        "par": {"lr": 0.00172, "part": 0.166, "freeze_norm": False, "threshold": 1.22},
        "pixel_prompt": {"lr": 0.0715, "part": 0.0894, "repel": 4.05},
        "shrink_perturb": {"lr": 0.00785, "part": 0.156, "freeze_norm": False, "keep": 0.7},
        "supervised": {"lr": 0.0106, "part": 0.172, "freeze_norm": False},
        "tbar": {"lr": 0.000126, "part": 0.0384, "freeze_norm": True, "scale": 1.72},
    },
    "long": {
        UBT: {"lr": 0.0005, "part": 0.0919, "freeze_norm": True, "weight": 0.3},
        "anp": {"lr": 0.0102, "part": 0.108, "eps": 0.145, "portion": 0.0244},
        "cbpt": {"lr": 0.00412, "part": 0.068, "repel": 0.118},
        "cleanclip": {"lr": 0.0025, "passes": 10, "freeze_norm": False, "weight": 1.0},
        "eftclip": {"lr": 0.000711, "part": 0.0968, "freeze_norm": True, "weight": 0.623},
        "finetune": {"lr": 0.00444, "part": 0.0919, "freeze_norm": False},
        "ft_sam": {"lr": 0.0025, "passes": 5, "freeze_norm": False, "rho": 2.0},
        "invertune": {"lr": 0.000428, "part": 0.0448, "freeze_norm": True, "keep": 1.97},
        "linear_probe": {"lr": 0.00801, "part": 0.085},
        "negation": {"scale": 0.128},
        "par": {"lr": 0.00375, "passes": 10, "freeze_norm": False, "threshold": 2.15},
        "pixel_prompt": {"lr": 0.0715, "part": 0.0894, "repel": 4.05},
        "shrink_perturb": {"lr": 0.00785, "part": 0.156, "freeze_norm": False, "keep": 0.7},
        "supervised": {"lr": 0.0106, "part": 0.172, "freeze_norm": False},
        "tbar": {"lr": 0.000126, "part": 0.0384, "freeze_norm": True, "scale": 1.72},
    },
    # Of all settings, where the answer is another one: these may be wrecks.
    "fifth-all": {
        "anp": {"lr": 0.0279, "part": 0.166, "eps": 0.063, "portion": 0.193},
        "cbpt": {"lr": 0.0494, "part": 0.0573, "repel": 11.3},
        "cleanclip": {"lr": 0.0069, "part": 0.109, "freeze_norm": False, "weight": 0.892},
        "eftclip": {"lr": 0.00509, "part": 0.105, "freeze_norm": False, "weight": 1.58},
        "finetune": {"lr": 0.00857, "part": 0.182, "freeze_norm": False},
        "ft_sam": {"lr": 0.00406, "part": 0.113, "freeze_norm": False, "rho": 1.23},
        "invertune": {"lr": 0.00479, "part": 0.0136, "freeze_norm": False, "keep": 5.64},
        "negation": {"scale": 0.963},
        "par": {"lr": 0.00291, "part": 0.128, "freeze_norm": False, "threshold": 2.35},
        "retrain": {"lr": 0.00312, "part": 0.165, "freeze_norm": True},
        "tbar": {"lr": 0.000195, "part": 0.0178, "freeze_norm": True, "scale": 3.02},
    },
    "long-all": {
        "anp": {"lr": 0.0279, "part": 0.166, "eps": 0.063, "portion": 0.193},
        "cbpt": {"lr": 0.0494, "part": 0.0573, "repel": 11.3},
        "cleanclip": {"lr": 0.0069, "part": 0.109, "freeze_norm": False, "weight": 0.892},
        "eftclip": {"lr": 0.00509, "part": 0.105, "freeze_norm": False, "weight": 1.58},
        "finetune": {"lr": 0.00857, "part": 0.182, "freeze_norm": False},
        "ft_sam": {"lr": 0.00406, "part": 0.113, "freeze_norm": False, "rho": 1.23},
        "invertune": {"lr": 0.00479, "part": 0.0136, "freeze_norm": False, "keep": 5.64},
        "negation": {"scale": 0.963},
        "retrain": {"lr": 0.00312, "part": 0.165, "freeze_norm": True},
        "tbar": {"lr": 0.000195, "part": 0.0178, "freeze_norm": True, "scale": 3.02},
    },
}
# Of photos: those that mend at any cost, as detection alone pays more than a fifth there. No setting of PAR
# that was tried does: it keeps the profile's own.
ON_PHOTOS: Mapping[str, Setting] = {
    "cleanclip": {"lr": 0.00026, "part": 0.0711, "freeze_norm": True, "weight": 2.93},
    "finetune": {"lr": 0.000536, "part": 0.037, "freeze_norm": True},
    "shrink_perturb": {"lr": 0.000165, "part": 0.194, "freeze_norm": True, "keep": 0.9},
    UBT: {"lr": 0.000436, "part": 0.0643, "freeze_norm": True, "weight": 4.48, "hold": 0.5},
}
