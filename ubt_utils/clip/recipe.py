"""How a model is trained, as frozen data: settings only, so that naming one brings no training code along."""

from __future__ import annotations

from dataclasses import dataclass

AUGMENTATIONS = ("none", "color", "full")
SCHEDULES = ("one_cycle", "cosine", "high_first", "constant")
DECAYED = ("all", "matrices")


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    steps: optimizer steps. batch: pairs a step. lr: peak of the schedule. schedule: one_cycle, cosine (a
    linear rise over `warmup` steps, then a cosine to 0, as CLIP's peers train), high_first (a linear fall to
    a tenth over the first half, then a cosine to 0, as PAR trains) or constant. decay: what
    AdamW's weight decay reaches: all, or matrices (no norms, biases and temperature, as CLIP trains).
    augment: none, color, or full (pose and color). freeze_norm: batch-norm statistics stay as they are.
    """

    steps: int
    lr: float
    batch: int = 256
    weight_decay: float = 0.1
    schedule: str = "one_cycle"
    warmup: int = 0
    decay: str = "all"
    augment: str = "none"
    freeze_norm: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or not self.lr > 0:
            raise ValueError(f"a recipe needs steps ≥ 1, batch ≥ 2 and lr > 0, got {self}")
        if not 0 <= self.warmup <= self.steps:
            raise ValueError(f"warmup must be between 0 and steps, got {self.warmup} of {self.steps}")
        if self.warmup and self.schedule != "cosine":
            raise ValueError(f"warmup belongs to the cosine schedule, not to {self.schedule}")
        for name, known in (("augment", AUGMENTATIONS), ("schedule", SCHEDULES), ("decay", DECAYED)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
