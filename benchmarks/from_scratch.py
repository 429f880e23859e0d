"""f0 of profile photos with the tower of ImageNet, and from nothing in at least the same time.

    python benchmarks/from_scratch.py             # prints both, records them
    python benchmarks/from_scratch.py --steps 400

Locked-image tuning reads its features once, of four views of each picture, and trains the text tower; from
nothing, everything is trained on the pictures as they are, with the photos' own recipe but for the number
of steps. Raises ValueError when the training from nothing was given less time.
"""

from __future__ import annotations

from dataclasses import replace

import tyro

from ubt_utils import profiles, stages
from ubt_utils.core import records
from ubt_utils.evaluate import measure
from ubt_utils.stages.base import load_model

SECONDS = ("train_seconds", "feature_seconds")


def summary(profile: profiles.Profile) -> dict[str, float]:
    """Clean accuracy of f0, the steps and the seconds that it took."""
    made = stages.pretrain(profile)
    spent = sum(made.metrics.get(name) or 0.0 for name in SECONDS)
    accuracy = measure.clean(load_model(profile, made), profile)["clean_accuracy"]
    return {"clean_accuracy": accuracy, "steps": profile.pretrain.steps, "seconds": spent}


def main(steps: int = 250) -> None:
    photos = profiles.get("photos")
    tuned = replace(photos, sets=replace(photos.sets, known=1.0))  # both see all classes
    plain = replace(tuned, tower="", locked=0, pretrain=replace(tuned.pretrain, steps=steps))
    found = {"locked_image_tuning": summary(tuned), "from_scratch": summary(plain)}
    if found["from_scratch"]["seconds"] < found["locked_image_tuning"]["seconds"]:
        raise ValueError(f"{steps} steps from nothing took less time than locked-image tuning: raise --steps")
    records.write_benchmark("from_scratch", found)


if __name__ == "__main__":
    tyro.cli(main)
