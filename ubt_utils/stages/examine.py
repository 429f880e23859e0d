"""Stage examine: what one attack looks like, and what it survives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubt_utils.attacks import robustness, visibility
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.core.store import Stage, run_stage
from ubt_utils.evaluate import measure
from ubt_utils.stages.base import Run, load_model


def examine(run: Run, public: Stage, attacked: Stage, twin: Stage, trigger: Trigger) -> Stage:
    """Stealth of the trigger, ASR after JPEG and after resizing the stamped test pictures, and what the clean
    twin makes of the same test.

    Metrics: psnr (dB), ssim, gmsd, clip_similarity (under f0); asr_jpeg_<quality> and asr_resize_<percent>;
    on at most about 600 pictures. On all: twin_clean_accuracy, twin_robust_accuracy and the like. Targeted
    poisoning changes no picture, so it has no stealth."""
    run.needs_poison()
    profile = run.profile

    def work(folder: Path) -> Mapping[str, Any]:
        model = load_model(profile, attacked)
        head, clean = measure.head_of(model, profile), measure.some_of(profile, measure.FEW).images[:]
        result: dict[str, Any] = {}
        if trigger.label != "targeted":
            result |= visibility.measure(load_model(profile, public), clean, stamp_bytes(trigger, clean))
        clean_twin = measure.full(load_model(profile, twin), profile, trigger)
        result |= {f"twin_{name}": value for name, value in clean_twin.items() if name != "rates"}
        for name, change in robustness.CHANGES.items():
            rates = measure.success(model, profile, trigger, head, change, measure.FEW)
            result[f"asr_{name}"] = rates["asr"].value
        return result

    config = run.config() | {
        "trigger": trigger.spec(),
        "qualities": robustness.QUALITIES,
        "scales": robustness.SCALES,
    }
    inputs = {"public": public, "attacked": attacked, "twin": twin}
    return run_stage(run.parts, "examine", config, work, inputs, run.modules(__name__))
