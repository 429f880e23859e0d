"""Between what the settings of every defense are looked for, and those of its source where one is known.

[ours]: the ranges; `study.tuning` draws from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ubt_utils.baselines import defenses
from ubt_utils.evaluate.choice import QUICK
from ubt_utils.ubt.defense import FORWARD_COST
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
VICTIM_PASSES = 12  # over D, of mini's victim: what a look at all of D is measured by
DETECTION = 0.135  # of the victim's cost that UBT's detection takes, measured on mini


def short(beside: float = 0.0) -> Span:
    """A tenth of the study's budget to all of it, less what is paid for beside training."""
    return Span((QUICK - beside) / 10, QUICK - beside)


def looking(defense: str) -> Span:
    """The same for a defense that looks at D before it trains."""
    return short(defenses.get(defense).looks * FORWARD_COST / VICTIM_PASSES)


RATE = Span(3e-4, 2e-2)
SHORT = {"lr": RATE, "part": short()}  # part: of the victim's cost, see `stages.defend`
TRAINED: Mapping[str, Range] = {**SHORT, "freeze_norm": (True, False)}
RANGES: Mapping[str, Mapping[str, Range]] = {
    UBT: {**TRAINED, "part": short(DETECTION), "lr": Span(1e-4, 1e-2), "weight": Span(0.03, 10)},
    "finetune": TRAINED,
    "cleanclip": {**TRAINED, "weight": Span(0.3, 10)},
    "par": {**TRAINED, "threshold": Span(0.3, 3)},
    "shrink_perturb": {**TRAINED, "keep": (0.6, 0.7, 0.8, 0.9, 0.95)},
    "retrain": TRAINED,
    "eftclip": {**TRAINED, "part": looking("eftclip"), "weight": Span(0.3, 10)},
    "supervised": TRAINED,
    "linear_probe": {**SHORT, "lr": Span(1e-3, 1e-1)},
    "pixel_prompt": {**SHORT, "lr": Span(1e-3, 1e-1), "repel": Span(0.1, 10)},
    "ft_sam": {**TRAINED, "rho": Span(0.5, 8)},
    "anp": {**SHORT, "lr": Span(5e-3, 5e-2), "eps": Span(0.05, 0.4), "portion": Span(0.02, 0.2)},
    "negation": {"scale": Span(0.1, 10)},
    "invertune": {**TRAINED, "part": looking("invertune"), "lr": Span(2e-5, 5e-3), "keep": Span(0.2, 8)},
    "tbar": {**TRAINED, "part": looking("tbar"), "lr": Span(1e-6, 1e-3), "scale": Span(0.1, 10)},
    "cbpt": {**SHORT, "part": looking("cbpt"), "lr": Span(5e-4, 1e-1), "repel": Span(0.1, 30)},
}
FROZEN: Mapping[str, Mapping[str, Range]] = {UBT: {"hold": (0.0, 0.5, 1.0, 2.0)}}  # drawn there, too
# A source's norm mode, weights, and passes over D_safe or the given pairs. Its rate, of another network,
# means nothing to mini's: half of the victim's, the victim's and twice that are tried; of PAR's, which
# starts high, three times as much. FT-SAM's 100 epochs over 5 % of the data are 5 passes, InverTune's 200
# steps of 64 pictures are one. `supervised` is CleanCLIP's authors'.
RATES = (0.5, 1.0, 2.0)
TEN = {"passes": 10, "freeze_norm": False}
PUBLISHED: Mapping[str, Mapping[str, Value]] = {
    "finetune": TEN,
    "cleanclip": {**TEN, "weight": 1.0},
    "par": {**TEN, "threshold": 2.15},
    "supervised": TEN,
    "ft_sam": {**TEN, "passes": 5, "rho": 2.0},
    "invertune": {**TEN, "passes": 1, "keep": 0.5},
}
HIGH = {"par": 3.0}
# What was used before it was tuned: 60 steps at mini's victims.
BEFORE: Mapping[str, Mapping[str, Value]] = {
    UBT: {"lr": 5e-4, "part": 0.0919, "freeze_norm": True, "weight": 0.3}
}


def base_of(defense: str) -> str:
    """The name of a defense without the number of pairs that it is given."""
    return defense.removesuffix(f"-{defenses.get(defense).given}")


def known(defense: str, rate: float) -> list[dict[str, Value]]:
    """The settings that are known beforehand: its source's, at several rates, where `rate` is that of a
    victim, and those of before it was tuned."""
    name = base_of(defense)
    if name in BEFORE:
        return [dict(BEFORE[name])]
    high = rate * HIGH.get(name, 1.0)
    return [{"lr": high * times, **PUBLISHED[name]} for times in RATES] if name in PUBLISHED else []


def tuned() -> tuple[str, ...]:
    """Every defense that is tuned."""
    return tuple(RANGES)


def ranges_of(defense: str, slower: float = 1.0, frozen: bool = False) -> Mapping[str, Range]:
    """The ranges of a defense, the same whether it has D_safe or is given pairs; ValueError for one that is
    not tuned. slower: by how much its learning rates are divided, for a tower that takes less. frozen: its
    norm statistics always are, and what `FROZEN` has is drawn on top."""
    name = base_of(defense)
    if name not in RANGES:
        raise ValueError(f"{defense!r} is not tuned; tuned: {', '.join(tuned())}")
    found = RANGES[name]
    rate = found.get("lr")
    if isinstance(rate, Span):
        found = {**found, "lr": Span(rate.low / slower, rate.high / slower)}
    if frozen and "freeze_norm" in found:
        found = {**found, "freeze_norm": (True,), **FROZEN.get(name, {})}
    return found


def is_published(setting: Mapping[str, Value]) -> bool:
    """Whether it is a setting of a source: these alone say their length in passes over D_safe."""
    return "passes" in setting


def at_an_end(defense: str, setting: Mapping[str, Value], slower: float = 1.0) -> list[str]:
    """Which of a setting's numbers lie at an end of their range."""
    spans = {name: one for name, one in ranges_of(defense, slower).items() if isinstance(one, Span)}
    return [
        name
        for name, span in spans.items()
        if name in setting and not END <= span.place(setting[name]) <= 1 - END
    ]
