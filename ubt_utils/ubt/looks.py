"""Detection, steps 1 and 3 together: look at D, vote, ask the words' pictures, and look again where that
leaves a doubt.

[ours] Pictures are disturbed: those of the weaker half, where most poison lies, and then those of all of D,
with further disturbances, since what the model has learned best is not weak. Honest words lose more there, so
that look's bar is higher. It is paid for only where the one before finds no word that would pass that bar,
too. Where neither does, pictures of other things are asked: do a word's traces (`traces`), or scattering
(`scatters`), bring them to it? Photos are asked so before anything is disturbed, for a photo is finer than a
drawing, and its honest words leave no traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ubt_utils.data.pictures import Images, take
from ubt_utils.ubt import others, scatters, select, traces
from ubt_utils.ubt.disturb import drops, taken
from ubt_utils.ubt.pool import weakest
from ubt_utils.ubt.settings import Look, Scatter, Trace


@dataclass(frozen=True, eq=False)
class Seen:
    """What a look ended in. drops: (K, N) what each of its disturbances takes, or how much a look at other
    pictures finds like poison; −inf where it did not look. scored: pairs that were scored for it, each as
    often as it was. traces: (a, 3, H, W), of the found words where it asked for traces."""

    look: Look
    drops: torch.Tensor
    found: tuple[select.Finding, ...]
    asked: tuple[select.Asked, ...]
    scored: int
    traces: torch.Tensor | None = None

    def settles(self, enough: float) -> bool:
        """Whether no further look is needed: other pictures told, or a word lost enough for every look."""
        return bool(self.found) and (bool(self.look.others) or max(one.lost for one in self.found) >= enough)


def look_after_look(
    model: nn.Module, images: Images, tokens: torch.Tensor, similar: torch.Tensor, looks: Sequence[Look]
) -> list[Seen]:
    """Each look at pictures (N, 3, H, W) uint8 and captions (N, L), of that similarity (N,) under the model,
    until one settles it."""
    enough = max(look.how.lost for look in looks)
    seen: list[Seen] = []
    known = torch.empty(0, len(tokens))
    for look in looks:
        if look.others:
            seen.append(_others(model, images, tokens, look, look.others))
        else:
            seen.append(_disturbances(model, images, tokens, similar, look, known))
            known = seen[-1].drops
        if seen[-1].settles(enough):
            break
    return seen


def _others(
    model: nn.Module, images: Images, tokens: torch.Tensor, look: Look, asks: Trace | Scatter
) -> Seen:
    of = others.world(model, images, tokens, asks.others)
    told = traces.look(of, look.how, asks) if isinstance(asks, Trace) else scatters.look(of, look.how, asks)
    return Seen(look, told.left, told.found, told.asked, told.scored, told.traces)


def _disturbances(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    similar: torch.Tensor,
    look: Look,
    known: torch.Tensor,
) -> Seen:
    rows = weakest(similar, look.part)
    fallen, scored = more_drops(model, images, tokens, similar, rows, look.family, known)
    found, asked = ask(model, images, tokens, fallen, look)
    return Seen(look, fallen, found, asked, scored + sum(2 * one.pictures for one in asked))


def decided(seen: Sequence[Seen]) -> Seen:
    """The last look that found something; where none did, the last that disturbed, since it says more of D
    than one at other pictures."""
    found = [one for one in seen if one.found]
    disturbed = [one for one in seen if not one.look.others]
    return (found or disturbed or list(seen))[-1]


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
) -> tuple[tuple[select.Finding, ...], tuple[select.Asked, ...]]:
    """What vote after vote finds among drops (K, N), and all that was asked for it."""
    found: list[select.Finding] = []
    asked: list[select.Asked] = []

    def lost(one: select.Candidate) -> float:
        pictures = take(images, one.carriers[: select.PICTURES])[:]
        value = taken(model, pictures, look.family[one.disturbance])
        asked.append(select.Asked(one, len(pictures), value, look.how.bar(len(one.carriers)), len(found)))
        return value

    for one in select.findings(tokens, fallen, lost, look.how):
        found.append(one)  # `lost` counts them
    return tuple(found), tuple(asked)
