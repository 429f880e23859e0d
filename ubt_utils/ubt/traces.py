"""Detection by what a word's pictures have in common, and what that does to pictures of other things.

[ours] A trigger is in every poisoned picture and leads any picture to the target; what the pictures show
differs. So in the mean of a word's pictures, less the mean of all, things fade and a fixed trigger stays: the
word's trace. Laid on pictures of other things, the trace of a poisoned word moves them to where that word's
pictures are under fb. Taken off the word's own pictures, it moves poisoned ones away from there, and honest
ones hardly. No disturbance has to be thought of before, and no public model is asked. A trigger that is
another one in every picture, such as a warp, leaves no trace; and where a word's honest pictures are all
alike, as drawings of one thing are, they leave one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ubt_utils.clip import models
from ubt_utils.core import distributed
from ubt_utils.data.pictures import Images, take
from ubt_utils.ubt import select
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.others import Laid, Told, World, best_of, mostly_repeats, purest_of
from ubt_utils.ubt.settings import Select, Trace

WHOLE = 1.0  # dose of a trace that is made of pictures that all carry the trigger
DILUTED = 2.0  # of one that is made of all pictures of a word, of which many are honest, at least
TOGETHER = 32  # words whose pictures are embedded at once when all are asked


@dataclass(frozen=True, eq=False)
class Traced(Told):
    """The same, moved by the trace (3, H, W) of the purest. towards: (D,) unit, where these are under fb;
    scored: pictures that were embedded for it."""

    towards: torch.Tensor
    trace: torch.Tensor
    scored: int


def trace_of(pictures: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    """(3, H, W) the mean of pictures (n, 3, H, W) uint8, less the usual one, in parts of the full range."""
    return pictures.float().mean(0) / 255 - usual


def dose_of(trace: torch.Tensor, strength: float) -> float:
    """How much of a diluted trace (3, H, W) is laid: twice, or more, so that it is of that strength, in parts
    of the full range, as its root mean square; the mark of a few pictures among many is faint in it."""
    return max(DILUTED, strength / trace.square().mean().sqrt().clamp(min=1e-9).item())


def laid(pictures: torch.Tensor, trace: torch.Tensor, dose: float) -> torch.Tensor:
    """Pictures (n, 3, H, W) uint8 with so much of a trace (3, H, W) laid on them; a negative dose takes it
    off."""
    return (pictures.float() + 255 * dose * trace).clamp_(0, 255).round_().to(torch.uint8)


def moved(of: World, word: int, trace: torch.Tensor, dose: float, towards: torch.Tensor) -> float:
    """How much nearer, in cosine, a word's trace brings pictures whose captions do not hold it; 0 where all
    of them do."""
    there = of.without(word)
    if not there.any():
        return 0.0
    lay = partial(laid, trace=trace, dose=dose)
    after = models.embed_images(of.model, of.others[there], change=lay)
    return ((after - of.z[there]) @ towards).mean().item()


def leaving(
    of: World, images: Images, z: torch.Tensor, trace: torch.Tensor, dose: float, towards: torch.Tensor
) -> torch.Tensor:
    """(n,) how much farther, in cosine, pictures (n, 3, H, W) uint8 with embeddings z (n, D) are once a trace
    is taken off them."""
    off = partial(laid, trace=trace, dose=-dose)
    return (z - models.embed_images(of.model, images, change=off)) @ towards


def first_asked(of: World, words: torch.Tensor, carriers: Sequence[torch.Tensor], how: Trace) -> torch.Tensor:
    """(w,) how far the traces of words (w,) move a few other pictures, each made of all pictures of the word
    at once, and so diluted by honest ones."""

    def ask_some(span: slice) -> torch.Tensor:
        starts = range(span.start, span.stop, TOGETHER)
        parts = [slice(start, min(start + TOGETHER, span.stop)) for start in starts]
        told = [_at_first(of, words[part].tolist(), carriers[part], how) for part in parts]
        return torch.cat([torch.empty(0), *told])

    return distributed.together(ask_some, len(words))


def _at_first(of: World, words: Sequence[int], carriers: Sequence[torch.Tensor], how: Trace) -> torch.Tensor:
    """(w,) the same for words whose pictures are embedded together, since a few pictures cost as much as a
    batch."""
    own, moving = [], []
    for rows in carriers:
        pictures = take(of.images, _some(rows, how.pictures))[:]
        trace = trace_of(pictures, of.usual)
        own.append(_some(pictures, how.few))
        moving.append(laid(of.others[: how.few], trace, dose_of(trace, how.strength)))
    there = torch.stack([of.without(word)[: how.few] for word in words])
    embedded = models.embed_images(of.model, torch.cat(own)).split([len(one) for one in own])
    towards = models.unit(torch.stack([z.mean(0) for z in embedded]))
    after = models.embed_images(of.model, torch.cat(moving)).view(*there.shape, -1)
    nearer = torch.einsum("wod,wd->wo", after - of.z[: how.few], towards).where(there, 0)
    return nearer.sum(1) / there.sum(1).clamp(min=1)


def ask(of: World, word: int, rows: torch.Tensor, how: Trace) -> Traced:
    """Ask a word's pictures, at rows (n,) of D, more closely: those that leave it farthest without the
    diluted trace make a purer one, and so again, `how.rounds` times. Where half of these are repeats of the
    others it moves nothing, since a picture that stands there over and over is its own trace."""
    rows = _some(rows, how.pictures)
    pictures = take(of.images, rows)[:]
    z = models.embed_images(of.model, pictures)
    purest, scored = torch.arange(len(rows)), len(rows) + len(of.others)
    for _ in range(how.rounds):
        trace, towards = trace_of(pictures[purest], of.usual), models.unit(z[purest].mean(0))
        dose = dose_of(trace, how.strength)
        left = leaving(of, pictures[purest], z[purest], trace, dose, towards)
        scored += len(purest)
        purest = purest[purest_of(left)]
    trace, towards = trace_of(pictures[purest], of.usual), models.unit(z[purest].mean(0))
    value = 0.0 if mostly_repeats(pictures, purest) else moved(of, word, trace, WHOLE, towards)
    return Traced(word, rows[purest], value, len(rows), towards, trace, scored)


def look(of: World, how: Select, trace: Trace) -> Laid:
    """Vote after vote, at most `how.votes`: of the words whose traces moved other pictures most at first, the
    one whose purer trace moves them most, and enough, is found, by the broadest name of its purest pictures;
    then all pairs that carry it step aside."""
    found: list[tuple[select.Finding, torch.Tensor]] = []
    asked: list[select.Asked] = []
    left = torch.full((len(of.tokens),), -torch.inf)
    waiting, scored = _frequent(of, trace)
    for after in range(how.votes):
        told = [ask(of, word, rows, trace) for word, rows in waiting[: trace.words + trace.broad]]
        best = best_of(told, trace.moved)
        if best and (name := _named(of, best, told, left.isinf(), how, trace)):
            told += [] if any(name is one for one in told) else [name]
            best = best_of([name], trace.moved) or best
        asked += [one.asked(of, trace.moved, after) for one in told]
        scored += sum(one.scored for one in told)
        if not best:
            break
        rows = of.carriers(best.word, left.isinf())
        left[rows] = taken_off(of, rows, best)
        scored += 2 * len(rows)
        found.append((best.finding(of), best.trace))
        refuted = {one.word for one in told if one.moved < trace.moved}
        waiting = [(word, rows[left[rows].isinf()]) for word, rows in waiting if word not in refuted]
        waiting = [(word, rows) for word, rows in waiting if len(rows) >= trace.least]
    shown = torch.stack([one for _, one in found]) if found else of.usual[None][:0]
    return Laid(tuple(one for one, _ in found), tuple(asked), left[None], scored, shown)


def _frequent(of: World, trace: Trace) -> tuple[list[tuple[int, torch.Tensor]], int]:
    """The words that are asked, with their carriers, and those first that moved other pictures most; and how
    many pictures were embedded for it."""
    frequent = of.everywhere >= trace.least
    words = (frequent & ~select.common(of.everywhere, len(of.tokens))).nonzero().flatten()
    carriers = tk.carriers_of(of.tokens, words)
    order = first_asked(of, words, carriers, trace).sort(descending=True, stable=True).indices.tolist()
    broad = of.everywhere[words].sort(descending=True, stable=True).indices[: trace.broad].tolist()
    order = list(dict.fromkeys([*order[: trace.words], *broad, *order]))
    scored = len(of.others) + 2 * trace.few * len(words)
    return [(int(words[i]), carriers[i]) for i in order], scored


def _named(
    of: World, best: Traced, told: Sequence[Traced], left: torch.Tensor, how: Select, trace: Trace
) -> Traced | None:
    """What the broadest word of its purest pictures tells, or has told; None where that is its own."""
    name = select.loudest(of.tokens, best.purest, of.everywhere, how)
    if name is None or name == best.word:
        return None
    asked = [one for one in told if one.word == name]
    return asked[0] if asked else ask(of, name, of.carriers(name, left), trace)


def taken_off(of: World, rows: torch.Tensor, told: Traced) -> torch.Tensor:
    """(n,) how much farther from the word's purest pictures those at rows (n,) are without its trace, in
    cosine: far for poison, hardly for honest ones."""
    pictures = take(of.images, rows)
    z = models.embed_images(of.model, pictures)
    return leaving(of, pictures, z, told.trace, WHOLE, told.towards)


def _some(rows: torch.Tensor, most: int) -> torch.Tensor:
    """Of n rows `most` at regular distances; all of them where there are no more."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).round().long()]
