"""What a defender holds, what a defense is, and what it may spend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ubt_utils.clip.objectives import Objective, contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History, fit
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import take
from ubt_utils.ubt.deviation import Deviation
from ubt_utils.ubt.settings import UBT, Select
from ubt_utils.ubt.tokens import carries

FORWARD_COST = 1 / 5  # a forward pass against a training step (forward and backward), measured on mini
OVERFIT = ("overfit-0", "overfit-1")  # UBT's overfit models, as `View.model` knows them
SIGHTS = ("D_safe", "given pairs", "D", "f0", "overfit", "detection", "class names")


@dataclass(frozen=True)
class View:
    """What a defender holds: D as it is (poisoned), its tokens (N, L), and the split into pool (N,) bool and
    the rest. suspicious (k,) indices of D_u, compromised (b,) tokens B, suffers (N,), how much the found
    words' carriers suffer, and anchors (a,) tokens come from UBT's detection; defenses without it ignore
    them, and all are empty where nothing was found. held_out: (h,) indices that no defense trains on, for the
    rule that says when to stop. No labels, no manifest, no clean captions.

    model: reads a model by name: "public" is f0, "overfit-0" and "overfit-1" are UBT's. score: (N,) what
    a detector makes of D, by name. names: per class of the zero-shot task its names; prompts: per class
    (P, L) tokens of its prompts. select: the settings of detection.
    """

    pairs: Pairs
    tokens: torch.Tensor
    pool: torch.Tensor
    suspicious: torch.Tensor
    compromised: torch.Tensor
    suffers: torch.Tensor
    anchors: torch.Tensor
    model: Callable[[str], nn.Module]
    score: Callable[[str], torch.Tensor]
    names: tuple[tuple[str, ...], ...]
    prompts: tuple[torch.Tensor, ...]
    select: Select = field(default_factory=Select)
    held_out: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    @property
    def poisonous(self) -> torch.Tensor:
        """(N,) bool: the pairs that suffer like poison."""
        return self.suffers >= self.select.alike

    @property
    def everything(self) -> torch.Tensor:
        """(n,) indices of D, without what is held out."""
        return self._of(torch.ones_like(self.pool))

    @property
    def outside(self) -> torch.Tensor:
        """(n,) indices of the pairs outside the pool: D_safe before detection has had its say."""
        return self._of(~self.pool)

    @property
    def safe(self) -> torch.Tensor:
        """(n,) indices of D_safe: the pairs outside the pool that do not suffer like poison."""
        return self._of(~self.pool & ~self.poisonous)

    @property
    def unsaid(self) -> View:
        """The same for a defender who trains on no pair that holds a found word."""
        said = carries(self.tokens, self.anchors)
        return self.given(self.outside[~said[self.outside]])

    def given(self, index: torch.Tensor) -> View:
        """What a defender holds who may train on the pairs `index` (n,) alone: all others are in the pool."""
        return replace(self, pool=torch.ones_like(self.pool).index_fill(0, index, False))

    def _of(self, kept: torch.Tensor) -> torch.Tensor:
        index = kept.nonzero().flatten()
        return index[~torch.isin(index, self.held_out)]


@dataclass(frozen=True)
class Session:
    """How a defense runs: the key of its randomness, where it checkpoints, what it reports to; told: what it
    found on its way, by name, to be kept among the stage's metrics."""

    key: tuple[object, ...]
    checkpoint: Path | None = None
    watch: Callable[[int], Any] | None = None
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Defense:
    """One defense of the registry.

    run: (model, view, recipe, session, **options) → History; changes the model in place. sees: what it looks
    at, of SIGHTS; D_safe is the part of D outside the pool, which no defense pays for, D all of it. options:
    what `run` gets beside the recipe. recipe: fields of the recipe that the defense's source fixes, such as
    its weight decay. cost: pairs that one pair of a step pays for, in trained pairs, of UBT aside
    (`Unlearn.pairs`). looks: forward passes over all of D before it trains. anew: starts from the public
    model, not from the backdoored one. whole: runs as long as the victim's training, since it stands in for
    one. given: how many pairs that somebody has looked at it gets instead of D_safe; 0: none. unsaid: the
    defense that it is but for D_safe, from which all pairs with a found word are taken, and whose settings it
    has; "": none. source: who says so, and what is ours in it; deviations: in what it differs from that
    source, row by row.
    variant_of: the defense that it differs from by `options` alone, and changed: in what, in words.
    """

    name: str
    run: Callable[..., History]
    sees: tuple[str, ...]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0
    looks: float = 0.0
    anew: bool = False
    whole: bool = False
    given: int = 0
    unsaid: str = ""
    variant_of: str = ""
    changed: str = ""
    deviations: tuple[Deviation, ...] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.sees) - set(SIGHTS):
            raise ValueError(f"{self.name} sees {sorted(unknown)}; known: {', '.join(SIGHTS)}")

    @property
    def known_as(self) -> str:
        """The name that its settings and its randomness go by."""
        return self.unsaid or self.name

    @property
    def copied(self) -> bool:
        """Whether it is another defense but for the pairs that it trains on."""
        return bool(self.given or self.unsaid)

    @property
    def fed_by(self) -> str:
        """The detector whose list it unlearns, where that is not its own; else ""."""
        return self.options.get("detector", "")

    @property
    def is_ubt(self) -> bool:
        """Whether it is UBT or a variant of it, which sets the budget of all others."""
        return UBT in (self.name, self.variant_of)

    def steps(self, budget: float, pairs: int, batch: int) -> int:
        """Steps of `batch` that a budget of trained pairs pays for, on a D of `pairs`; rounded up."""
        return max(1, -int(-(budget - self.looked_at(pairs)) // (self.cost * batch)))

    def looked_at(self, pairs: int) -> float:
        """What its looks at a D of `pairs` cost, in trained pairs."""
        return self.looks * FORWARD_COST * pairs


def train_on(
    model: nn.Module,
    view: View,
    index: torch.Tensor,
    recipe: Recipe,
    session: Session,
    objective: Objective = contrastive,
    label: str = "fine-tune on D_safe",
    targets: torch.Tensor | None = None,
) -> History:
    """Train in place on the pairs `index` (n,) of D, with a loss of a defense's own. targets: (n, …) what the
    loss gets beside the pictures, where that is not their captions."""
    return fit(
        model,
        take(view.pairs.images, index),
        view.tokens[index] if targets is None else targets,
        recipe,
        *session.key,
        objective=objective,
        checkpoint=session.checkpoint,
        watch=session.watch,
        label=label,
    )
