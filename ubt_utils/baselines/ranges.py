"""Between what the settings of every defense are looked for, and those of its source where one is known.

[ours]: the ranges; `study.tuning` draws from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ubt_utils.baselines import defenses
from ubt_utils.ubt.settings import UBT

END = 0.05  # of a range: who chooses a value so near to its end would perhaps have gone beyond it
Value = float | bool


@dataclass(frozen=True)
class Span:
    """A range of numbers, drawn from by their logarithm."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """The number at u in [0, 1), to three digits."""
        return float(f"{self.low * (self.high / self.low) ** u:.3g}")

    def place(self, value: float) -> float:
        """Where a number lies, 0 at the low end and 1 at the high one."""
        return math.log(value / self.low) / math.log(self.high / self.low)


Range = Span | tuple[Value, ...]  # or one of some values, each as likely
SHORT = {"lr": Span(1e-4, 1e-2), "part": Span(0.02, 0.5)}  # part: of the victim's cost, see `stages.defend`
TRAINED: Mapping[str, Range] = {**SHORT, "freeze_norm": (True, False)}
RANGES: Mapping[str, Mapping[str, Range]] = {
    UBT: {**TRAINED, "weight": Span(0.03, 10)},
    "finetune": TRAINED,
    "cleanclip": {**TRAINED, "weight": Span(0.3, 10)},
    "par": {**TRAINED, "threshold": Span(0.3, 3)},
    "shrink_perturb": {**TRAINED, "keep": (0.6, 0.7, 0.8, 0.9, 0.95)},
    "eftclip": {**TRAINED, "lr": Span(3e-4, 1e-2), "weight": Span(0.3, 10)},
    "supervised": TRAINED,
    "linear_probe": {**SHORT, "lr": Span(1e-3, 1e-1)},
    "pixel_prompt": {**SHORT, "lr": Span(1e-3, 1e-1), "repel": Span(0.1, 10)},
    "ft_sam": {**TRAINED, "rho": Span(0.5, 8)},
    "anp": {**SHORT, "lr": Span(5e-3, 5e-2), "eps": Span(0.05, 0.4), "portion": Span(0.02, 0.2)},
    "negation": {"scale": Span(0.1, 10)},
    "invertune": {**TRAINED, "lr": Span(2e-5, 2e-3), "keep": Span(0.2, 8)},
    "tbar": {**TRAINED, "lr": Span(1e-6, 1e-3), "scale": Span(0.1, 10)},
    "cbpt": {**SHORT, "lr": Span(5e-4, 1e-1), "repel": Span(0.1, 30)},
}
# A source's norm mode and passes over D_safe; FT-SAM's 100 epochs over 5 % of the data are 5 of them. The
# rate is the victim's own, or three times that for PAR, which starts high: rates of CLIP's ResNet mean
# nothing to mini's.
TEN = {"lr": 1.25e-3, "passes": 10, "freeze_norm": False}
PUBLISHED: Mapping[str, Mapping[str, Value]] = {
    "finetune": TEN,
    "cleanclip": {**TEN, "weight": 1.0},
    "par": {**TEN, "lr": 3.75e-3, "threshold": 2.15},
    "supervised": TEN,
    "ft_sam": {**TEN, "passes": 5, "rho": 2.0},
}
# What was used before it was tuned: 60 steps at mini's victims.
BEFORE: Mapping[str, Mapping[str, Value]] = {
    UBT: {"lr": 5e-4, "part": 0.0919, "freeze_norm": True, "weight": 0.3}
}


def tuned() -> tuple[str, ...]:
    """Every defense that is tuned."""
    return tuple(RANGES)


def ranges_of(defense: str) -> Mapping[str, Range]:
    """The ranges of a defense, the same whether it has D_safe or is given pairs; ValueError for one that is
    not tuned."""
    name = defenses.get(defense).name.removesuffix(f"-{defenses.get(defense).given}")
    if name not in RANGES:
        raise ValueError(f"{defense!r} is not tuned; tuned: {', '.join(tuned())}")
    return RANGES[name]


def is_published(setting: Mapping[str, Value]) -> bool:
    """Whether it is a setting of a source: these alone say their length in passes over D_safe."""
    return "passes" in setting


def at_an_end(defense: str, setting: Mapping[str, Value]) -> list[str]:
    """Which of a setting's numbers lie at an end of their range."""
    spans = {name: one for name, one in ranges_of(defense).items() if isinstance(one, Span)}
    return [
        name
        for name, span in spans.items()
        if name in setting and not END <= span.place(setting[name]) <= 1 - END
    ]
