"""The public model of a profile as a file of the repository: train it, round it, note how it was made."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ubt_utils import profiles, stages
from ubt_utils.clip import artifacts, models
from ubt_utils.core import records
from ubt_utils.evaluate import measure
from ubt_utils.stages.base import WEIGHTS, load_model


def publish(profile: str = "mini", name: str = "") -> Path:
    """Train a profile's public model by its recipe and ship it as ubt_utils/clip/public/<name>.safetensors,
    with its note. name: the profile's own where there is none: that of its `weights`, or the profile's.
    ValueError for a profile without a public model.

    The same code, device and number of threads give the same bytes; others round otherwise, and training
    makes that another model of about the same accuracy.
    """
    setting = profiles.get(profile)
    recipe = setting.pretrain
    if recipe is None:
        raise ValueError(f"{profile} has no public model: its victim starts from random weights")
    name, setting = name or setting.weights or profile, replace(setting, weights="")
    made = stages.pretrain(setting)
    note: dict[str, Any] = {
        "profile": profile,
        "model": setting.model,
        "recipe": asdict(recipe),
        "data": dict(setting.sets.contents()),
        "seed": made.config["seed"],
        "single_precision_sha256": records.content_of(made.contents),
        "made": dict(made.made),
        "command": f"python -m ubt_utils publish --profile {profile}",
    }
    single, half = load_model(setting, made), models.create(setting.model, 0)
    half.load_state_dict(artifacts.rounded(made.path(WEIGHTS)))
    pairs = {"single": single, "half": half}
    note["clean_accuracy"] = {k: measure.clean(m, setting)["clean_accuracy"] for k, m in pairs.items()}
    return artifacts.publish(made.path(WEIGHTS), name, note)
