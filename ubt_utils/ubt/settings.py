"""Every setting of the method, step by step, as frozen data; what each value is worth is in METHOD.md."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ubt_utils.clip.recipe import Recipe

UBT = "ubt"  # its name among the defenses
LEVELS = ("token", "sample")


@dataclass(frozen=True)
class Overfit:
    """Steps 1 and 2. pool: the fraction ρ of D, least similar under f0. recipe: the short training on each
    half of it, read `reads` times along its way."""

    recipe: Recipe
    pool: float = 0.25
    reads: int = 4


@dataclass(frozen=True)
class Select:
    """top: pairs in the unlearning set D_u (k), at most. outlier: B is every token whose surprise in D_u is
    at least this fraction of the largest."""

    top: int = 64
    outlier: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.outlier <= 1:
            raise ValueError(f"outlier must be in (0, 1], got {self.outlier}")
        if self.top < 1:
            raise ValueError(f"the unlearning set needs at least one pair, got top={self.top}")


@dataclass(frozen=True)
class Unlearn:
    """Every setting of step 5.

    recipe: how long and how hard. weight: w. level: token, or sample, which pushes whole captions. words: how
    many other words stand in for B; 0: B is left out. both: push both towers. retain: keep L_CLIP on D_safe.
    second_look: leave pairs outside the pool that look like D_u out of D_safe. tokens_by: what finds B:
    surprise, occlusion or gradient. detector: whose best scores are D_u. in_turn: several votes, for several
    words.
    """

    recipe: Recipe
    weight: float = 1.0
    level: str = "token"
    words: int = 4
    both: bool = False
    retain: bool = True
    second_look: bool = True
    tokens_by: str = "surprise"
    detector: str = "ubt"
    in_turn: bool = False

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"unknown unlearning level {self.level!r}; known: {', '.join(LEVELS)}")

    def options(self) -> dict[str, Any]:
        """All but the recipe."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recipe"}
