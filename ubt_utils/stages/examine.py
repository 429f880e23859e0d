"""Stage examine: what one attack looks like, and what it survives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubt_utils import evaluation, robustness, runs, stealth
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.profiles import Profile
from ubt_utils.runs import Stage
from ubt_utils.stages.attack import attack
from ubt_utils.stages.common import base_config, load_model, needs_poison
from ubt_utils.stages.craft import trigger_of
from ubt_utils.stages.pretrain import pretrain


def examine(profile: Profile, attack_name: str, seed: int) -> Stage:
    """Stealth of the trigger, and ASR after JPEG and after resizing the stamped test pictures.

    Metrics: psnr (dB), ssim, gmsd, clip_similarity (under f0); asr_jpeg_<quality> and
    asr_resize_<percent>; on at most about 600 pictures. Targeted poisoning changes no picture, so
    it has no stealth.
    """
    needs_poison(attack_name)
    attacked, public = attack(profile, attack_name, seed), pretrain(profile)
    config = base_config(profile, seed, (attacked, public)) | {
        "qualities": robustness.QUALITIES,
        "scales": robustness.SCALES,
    }

    def work(folder: Path) -> Mapping[str, Any]:
        trigger = trigger_of(profile, attack_name, seed)
        model = load_model(profile, attacked)
        head, clean = (
            evaluation.head_of(model, profile),
            evaluation.some_of(profile, evaluation.FEW).images[:],
        )
        result = {}
        if trigger.label != "targeted":
            result |= stealth.measure(load_model(profile, public), clean, stamp_bytes(trigger, clean))
        for name, change in robustness.CHANGES.items():
            rates = evaluation.success(model, profile, trigger, head, change, evaluation.FEW)
            result[f"asr_{name}"] = rates["asr"].value
        return result

    return runs.run_stage((profile.family, attack_name, str(seed)), "examine", config, work)
