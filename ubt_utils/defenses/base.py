"""What a defense is given, what it may spend, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ubt_utils.data.pairs import Pairs


@dataclass(frozen=True)
class View:
    """What a defender holds: D as it is (poisoned), its tokens (N, L), and the split into
    pool (N,) bool and the rest, made with the public model alone. suspicious (k,) indices
    of D_u, compromised (b,) tokens B and left_out (l,) indices outside the pool that look like
    D_u come from detection; defenses without detection ignore them. No labels, no manifest,
    no clean captions."""

    pairs: Pairs
    tokens: torch.Tensor
    pool: torch.Tensor
    suspicious: torch.Tensor
    compromised: torch.Tensor
    left_out: torch.Tensor

    @property
    def outside(self) -> torch.Tensor:
        """(n,) indices of the pairs outside the pool: D_safe before detection has had its say."""
        return (~self.pool).nonzero().flatten()

    @property
    def safe(self) -> torch.Tensor:
        """(n,) indices of D_safe: the pairs outside the pool, without those left out."""
        outside = self.outside
        return outside[~torch.isin(outside, self.left_out)]


@dataclass(frozen=True)
class Session:
    """How a defense runs: the key of its randomness, where it checkpoints, what it reports to."""

    key: tuple[object, ...]
    checkpoint: Path | None = None
    watch: Callable[[int], Any] | None = None
