"""Detection by where pictures of other things go once they are scattered.

[ours] A warp is another change in every picture, so that it leaves no trace (`traces`). But what a model has
learned of one is not its exact form: it answers to any picture that is as broken up. So pictures of other
things are scattered, each pixel fetched from a random place nearby, and embedded under fb. A model without
such a backdoor sends them to a place of their own, which pictures of a word come near only where they look
scattered themselves, as static does: these are found, too. One with it sends them to the poisoned pictures,
which are there as they are. Of the pairs that are nearest to that place the captions say the word, and how
near a carrier is tells poison from honest pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ubt_utils.clip import models
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.ubt import select
from ubt_utils.ubt.others import Laid, Told, World, best_of, mostly_repeats, purest_of
from ubt_utils.ubt.settings import Scatter, Select


@dataclass(frozen=True, eq=False)
class Place:
    """Where scattered pictures go. gone: (o, D) their embeddings; near: (N,) how near the pairs' pictures are
    to the middle of these, in cosine."""

    gone: torch.Tensor
    near: torch.Tensor


def scattered(images: torch.Tensor, block: int, reach: float) -> torch.Tensor:
    """Pictures (n, 3, H, W) uint8, each block of `block` × `block` pixels fetched from a random place, the
    same in all pictures: along each axis at most `reach` of the longer side away, a pixel at least, and no
    farther than the edge."""
    height, width = images.shape[-2:]
    far = max(1, round(reach * max(height, width)))
    grid = -(-height // block), -(-width // block)
    shift = torch.randint(-far, far + 1, (2, *grid), generator=generator("scatter", block, far, grid))
    down, across = shift.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]
    rows = (torch.arange(height)[:, None] + down).clamp(0, height - 1)
    columns = (torch.arange(width) + across).clamp(0, width - 1)
    return images[..., rows, columns]


def places(of: World, scatter: Scatter) -> list[Place]:
    """Where other pictures go, per size of the blocks."""
    everything = models.embed_images(of.model, of.images)
    found = []
    for block in scatter.blocks:
        gone = models.embed_images(of.model, scattered(of.others, block, scatter.reach))
        found.append(Place(gone, everything @ models.unit(gone.mean(0))))
    return found


def ask(of: World, place: Place, left: torch.Tensor, how: Select, scatter: Scatter) -> Told | None:
    """What the pairs nearest to a place, of those that are left (N,) bool, tell of the word that their
    captions share; None where they share none. Where half of the nearest quarter of its pictures are repeats
    of the others it moves nothing, as with traces."""
    near = place.near.where(left, -torch.inf)
    nearest = near.sort(descending=True, stable=True).indices[: min(scatter.nearest, int(left.sum()))]
    word = select.loudest(of.tokens, nearest, of.everywhere, how)
    if word is None:
        return None
    rows = of.carriers(word, left)
    purest = rows[purest_of(place.near[rows])]
    towards = models.unit(models.embed_images(of.model, take(of.images, purest)).mean(0))
    there = of.without(word)
    moved = ((place.gone - of.z)[there] @ towards).mean().item() if there.any() else 0.0
    return Told(word, purest, 0.0 if mostly_repeats(of.images, purest) else moved, len(rows))


def beyond(near: torch.Tensor, rows: torch.Tensor, most: int) -> torch.Tensor:
    """(n,) how far carriers at rows (n,) are beyond half of the way from the usual picture to the place, in
    cosine: near (N,) of all pairs; the way ends where the `most` nearest of them are. Honest pictures of the
    word are on the way, too, since poison has drawn their word there."""
    end = near[rows].sort(descending=True).values[:most].median()
    return near[rows] - (near.median() + end) / 2


def look(of: World, how: Select, scatter: Scatter) -> Laid:
    """Vote after vote, at most `how.votes`: the word whose pictures scattered ones of other things come
    nearest to, if near enough, is found; then all pairs that carry it step aside."""
    found: list[select.Finding] = []
    asked: list[select.Asked] = []
    suspicion = torch.full((len(of.tokens),), -torch.inf)
    where, scored = places(of, scatter), len(of.tokens) + (1 + len(scatter.blocks)) * len(of.others)
    for after in range(how.votes):
        answers = [ask(of, place, suspicion.isinf(), how, scatter) for place in where]
        told = {one: place for one, place in zip(answers, where, strict=True) if one}
        asked += [one.asked(of, scatter.moved, after) for one in told]
        scored += sum(len(one.purest) for one in told)
        best = best_of(list(told), scatter.moved)
        if not best:
            break
        rows = of.carriers(best.word, suspicion.isinf())
        suspicion[rows] = beyond(told[best].near, rows, how.least)
        found.append(best.finding(of))
    return Laid(tuple(found), tuple(asked), suspicion[None], scored)
