"""Detection, steps 1 and 3 together: look at D, vote, ask the words' pictures, and look again where that
leaves a doubt.

[ours] The first look is at the weaker half, where most poison lies. What the model has learned best is not
weak, so the second look is at all of D, with further disturbances. Honest words lose more there, so its bar
is higher. It is paid for only where the first look finds no word that would pass that bar, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ubt_utils.data.pictures import Images, take
from ubt_utils.ubt import select
from ubt_utils.ubt.disturb import drops, taken
from ubt_utils.ubt.pool import weakest
from ubt_utils.ubt.settings import Look


@dataclass(frozen=True)
class Asked:
    """A candidate that was looked at: the agreement that its pictures lost, the bar for so many of them, and
    how many words had been found by then."""

    candidate: select.Candidate
    pictures: int
    lost: float
    bar: float
    after: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What a look ended in. rows: (N,) bool, what it looked at. drops: (K, N) of its disturbances, −inf
    elsewhere. scored: pairs that were disturbed for it, each as often as it was."""

    look: Look
    rows: torch.Tensor
    drops: torch.Tensor
    found: tuple[select.Finding, ...]
    asked: tuple[Asked, ...]
    scored: int


def look_after_look(
    model: nn.Module, images: Images, tokens: torch.Tensor, similar: torch.Tensor, looks: Sequence[Look]
) -> list[Seen]:
    """Each look at pictures (N, 3, H, W) uint8 and captions (N, L), of that similarity (N,) under the model,
    until one finds a word that loses enough for every look."""
    enough = max(look.how.lost for look in looks)
    seen: list[Seen] = []
    fallen = torch.empty(0, len(tokens))
    for look in looks:
        rows = weakest(similar, look.part)
        fallen, scored = more_drops(model, images, tokens, similar, rows, look.family, fallen)
        found, asked = ask(model, images, tokens, fallen, look)
        seen.append(Seen(look, rows, fallen, found, asked, scored))
        if any(one.lost >= enough for one in found):
            break
    return seen


def decided(seen: Sequence[Seen]) -> Seen:
    """The last look that found something; the last one, where none did."""
    return next((one for one in reversed(seen) if one.found), seen[-1])


def more_drops(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    similar: torch.Tensor,
    rows: torch.Tensor,
    names: Sequence[str],
    known: torch.Tensor,
) -> tuple[torch.Tensor, int]:
    """What `disturb.drops` gives, and how many pairs were scored for it. known: (k, N) drops of the first k
    of the names that are there already, and are kept."""
    there = known.isfinite().all(0) if len(known) else torch.zeros_like(rows)
    old, new = names[: len(known)], names[len(known) :]
    fallen = known.maximum(drops(model, images, tokens, similar, rows & ~there, old))
    further = drops(model, images, tokens, similar, rows, new)
    return torch.cat([fallen, further]), len(old) * int((rows & ~there).sum()) + len(new) * int(rows.sum())


def ask(
    model: nn.Module, images: Images, tokens: torch.Tensor, fallen: torch.Tensor, look: Look
) -> tuple[tuple[select.Finding, ...], tuple[Asked, ...]]:
    """What vote after vote finds among drops (K, N), and all that was asked for it."""
    found: list[select.Finding] = []
    asked: list[Asked] = []

    def lost(one: select.Candidate) -> float:
        pictures = take(images, one.carriers[: select.PICTURES])[:]
        value = taken(model, pictures, look.family[one.disturbance])
        asked.append(Asked(one, len(pictures), value, look.how.bar(len(one.carriers)), len(found)))
        return value

    for one in select.findings(tokens, fallen, lost, look.how):
        found.append(one)  # `lost` counts them
    return tuple(found), tuple(asked)
