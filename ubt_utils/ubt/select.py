"""Step 3, suspicious-sample detection: is there a backdoor, which few pairs to unlearn, which to leave out.

[paper] Fewer, suspicious samples are selected after overfit training. [ours] how. Poison, unlike noise,
agrees with itself: in its captions, and, as long as the trigger holds, in its pictures. So both are asked.

1. `candidates`: of each disturbance the pairs that suffer most vote: which word do their captions hold far
   more often than D does? Voters that share one word often share others, so they go by the broadest of these.
2. `convicted`: a word is believed when its pictures agree under fb and no longer agree once disturbed. Honest
   pictures of one word look alike and stay alike. The believed word whose pictures lose most is the anchor;
   where none is believed, nothing is found, and nothing is unlearned.
3. `findings` votes again without the anchor's pairs, for an attacker may have several words.
4. `suffering`: how much each carrier of an anchor suffers, as a part of the worst of them, under all the
   disturbances that speak against the word.
5. `select`: those in the pool that surely suffer like poison are the candidates of the unlearning set D_u;
   the best by overfit similarity are taken, of each anchor in turn. Words that D_u holds more often than D
   are the compromised tokens B.
6. The second look: carriers outside the pool that suffer at all alike are left out of D_safe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from ubt_utils.kernels.occlusion import inner
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.settings import Select

COMMON = 0.1  # a word that more of all captions hold is language, not an attack
PICTURES = 64  # of a word's, at most, whose agreement is asked for
SHARED = 0.9  # of a word's voters hold another word, which then is as good a name for them
AS_LOUD = 0.5  # of the word's surprise, at least, which such a name has itself


class Candidate(NamedTuple):
    """Suspicious captions that hold a word too often. anchor: the broadest word that they share. surprise:
    that of the word. disturbance: which one made them suspicious. voters: how many voted; carriers: (n,)
    indices of those of them that hold the word, worst sufferers first."""

    anchor: int
    surprise: float
    disturbance: int
    voters: int
    carriers: torch.Tensor


Lost = Callable[[Candidate], float]  # the agreement of its pictures that its disturbance takes


@dataclass(frozen=True)
class Asked:
    """A candidate that was looked at: the agreement that its pictures lost, or how far others came to them,
    the bar for so many of them, and how many words had been found by then."""

    candidate: Candidate
    pictures: int
    lost: float
    bar: float
    after: int


@dataclass(frozen=True)
class Finding:
    """What one vote ended in: the anchor, the disturbance that gave it away, its surprise, and the agreement
    that its pictures lost, or how far others came to them. witnesses: all disturbances under which they lose
    as much, that one first."""

    anchor: int
    disturbance: int
    surprise: float
    lost: float
    witnesses: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """chosen: (k,) indices of D_u, the most suspicious of each anchor first. score: (N,) what ranked them:
    suffering carriers of the anchors first, then the rest of the pool, −inf outside. compromised: (b,) the
    tokens B."""

    chosen: torch.Tensor
    score: torch.Tensor
    compromised: torch.Tensor


def common_words(captions: torch.Tensor) -> torch.Tensor:
    """(V,) bool: tokens that more than a tenth of the captions (n, L) hold."""
    return common(tk.caption_counts(captions), len(captions))


def common(counts: torch.Tensor, captions: int) -> torch.Tensor:
    """(V,) bool: the same of `caption_counts` (V,) of so many captions."""
    return counts > COMMON * captions


def candidates(tokens: torch.Tensor, drops: torch.Tensor, how: Select) -> list[Candidate]:
    """The words of all votes, loudest first: those of `how.least` carriers and more that are surprising.

    tokens: (N, L) of D. drops: (K, N), what each disturbance takes of a pair's similarity; −inf: has no vote.
    Of each disturbance the first of `how.voters` pairs vote, and the first of the next number, and so on: few
    voters see few poisoned pairs more clearly, and many voters many.
    """
    everywhere = tk.caption_counts(tokens)
    found = []
    for k, drop in enumerate(drops):
        order = drop.sort(descending=True, stable=True).indices[: int(drop.isfinite().sum())]
        for count in how.voters:
            if len(order):
                found += _vote(tokens, order[:count], everywhere, k, how)
    return sorted(found, key=lambda one: one.surprise, reverse=True)


def loudest(tokens: torch.Tensor, voters: torch.Tensor, everywhere: torch.Tensor, how: Select) -> int | None:
    """The word that a few pairs (v,) of D name their captions (N, L) by: as in `candidates`, of one vote.
    everywhere: (V,), the `caption_counts` of D."""
    words = _vote(tokens, voters, everywhere, 0, how)
    return max(words, key=lambda one: one.surprise).anchor if words else None


def _vote(
    tokens: torch.Tensor, voters: torch.Tensor, everywhere: torch.Tensor, k: int, how: Select
) -> list[Candidate]:
    language, said = common(everywhere, len(tokens)), tokens[voters]
    if not inner(said).any():
        return []  # no captions, or none with a word
    ids, count, surprise = tk.surprise(said, everywhere, len(tokens))
    counts = ~language[ids] if (~language[ids]).any() else torch.ones_like(ids, dtype=torch.bool)
    counts &= (count >= how.least) & (surprise > 0)
    if not counts.any():
        return []
    ids, surprise = ids[counts], surprise[counts]
    holds = torch.stack([tk.carries(said, word[None]) for word in ids])
    names = _broadest(holds, surprise, everywhere[ids])
    return [
        Candidate(int(ids[name]), loud.item(), k, len(voters), voters[held])
        for name, loud, held in zip(names, surprise, holds, strict=True)
    ]


def _broadest(holds: torch.Tensor, surprise: torch.Tensor, everywhere: torch.Tensor) -> list[int]:
    """For each of w words that so many captions of D hold (w,), which of them to call its voters by: the most
    frequent that nearly all of them hold, and that is not much less surprising. holds: (w, v) bool."""
    together = holds.double() @ holds.double().T
    shared = together >= SHARED * together.diagonal()[:, None]
    shared &= surprise >= AS_LOUD * surprise[:, None]
    return torch.where(shared, everywhere, 0).argmax(1).tolist()


def convicted(words: list[Candidate], lost: Lost, how: Select) -> Finding | None:
    """Of the candidates whose pictures lose enough of their agreement, which is less where they are many,
    the one that loses most, the first of equal ones; None where there is none. lost: asked for one candidate
    after the other."""
    fallen = [lost(one) for one in words]
    enough = [i for i, one in enumerate(words) if fallen[i] >= how.bar(len(one.carriers))]
    if not enough:
        return None
    best = max(enough, key=fallen.__getitem__)
    one = words[best]
    return Finding(one.anchor, one.disturbance, one.surprise, fallen[best], (one.disturbance,))


def findings(tokens: torch.Tensor, drops: torch.Tensor, lost: Lost, how: Select) -> Iterator[Finding]:
    """What vote after vote finds, at most `how.votes`: after each, all pairs that carry its word step aside.
    Empty: nothing was found. Arguments as in `candidates` and `convicted`."""
    left = drops.clone()
    for _ in range(how.votes):
        one = convicted(candidates(tokens, left, how), lost, how)
        if one is None:
            return
        yield replace(one, witnesses=witnesses(tokens, drops, one, lost, how))
        left[:, tk.carries(tokens, torch.tensor([one.anchor]))] = -torch.inf


def decisive(asked: Sequence[Mapping[str, Any]], found: Collection[str]) -> list[Mapping[str, Any]]:
    """Of all words that were asked those that speak for or against the found ones: these themselves, and what
    was asked when the pairs of all of them had stepped aside. The others are names of the same pairs.

    asked: rows of a word and, `after`, of how many words had been found when it was asked.
    """
    return [one for one in asked if one["word"] in found or one["after"] == len(found)]


def witnesses(
    tokens: torch.Tensor, drops: torch.Tensor, found: Finding, lost: Lost, how: Select
) -> tuple[int, ...]:
    """The disturbances under which the worst sufferers among the anchor's carriers lose at least `how.lost`
    of their agreement, the one that gave it away first: several ones tell poison from honest carriers better
    than one, which harms some of these, too. A weak witness would blur what the others say, so that the bar
    is not lower for many pictures here."""
    seen = [found.disturbance]
    carriers = tk.carries(tokens, torch.tensor([found.anchor])).nonzero().flatten()
    for k, drop in enumerate(drops):
        relative = drop[carriers] / _worst(drop[carriers], how)
        order = relative.sort(descending=True, stable=True).indices
        worst = carriers[order[relative[order] >= how.sure]]
        if k not in seen and len(worst) >= how.least:
            candidate = Candidate(found.anchor, found.surprise, k, len(carriers), worst)
            seen += [k] if lost(candidate) >= how.lost else []
    return tuple(seen)


def _worst(drop: torch.Tensor, how: Select) -> torch.Tensor:
    """() the median of the largest drops (c,)."""
    return drop.sort(descending=True).values[: how.least].median().clamp(min=1e-9)


def suffering(
    tokens: torch.Tensor, drops: torch.Tensor, found: Sequence[Finding], how: Select
) -> torch.Tensor:
    """(N,) how much the carriers of a found word suffer, as a part of the worst of them, mean over the
    witnesses; −inf for all other pairs."""
    suffers = torch.full((len(tokens),), -torch.inf)
    for one in found:
        carriers = tk.carries(tokens, torch.tensor([one.anchor]))
        told = [drops[k] / _worst(drops[k][carriers], how) for k in one.witnesses]
        mean = torch.stack(told).mean(0)
        suffers = torch.where(carriers, torch.maximum(suffers, mean), suffers)
    return suffers


def select(
    tokens: torch.Tensor,
    rank: torch.Tensor,
    pool: torch.Tensor,
    sure: torch.Tensor,
    anchors: torch.Tensor,
    how: Select,
) -> Selection:
    """The unlearning set D_u and the compromised tokens B.

    tokens: (N, L). rank: (N,) by which the pool's pairs are ranked, within a span of 2, as overfit
    similarity is. pool: (N,) bool.
    sure: (N,) bool, the pairs that may be in D_u, which is empty where the pool holds none; each carries one
    of the anchors (a,).
    """
    carriers = pool & sure
    score = torch.where(pool, rank + 2.0 * carriers, -torch.inf)  # cosines span 2
    order = score.sort(descending=True, stable=True).indices[: int(carriers.sum())]
    chosen = order[_in_turn(tokens[order], anchors)][: how.most(len(anchors))]
    return Selection(chosen, score, tokens_of(tokens, chosen, how.outlier))


def _in_turn(tokens: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """(c,) the order in which captions (c, L), the best first, are taken: the first of each anchor, then the
    second of each, and so on, or one word's could fill all of D_u."""
    place = torch.full((len(tokens),), len(tokens))
    for anchor in anchors:
        held = tk.carries(tokens, anchor[None])
        place = torch.where(held, place.minimum(held.cumsum(0)), place)
    return place.argsort(stable=True)


def tokens_of(tokens: torch.Tensor, chosen: torch.Tensor, outlier: float) -> torch.Tensor:
    """(b,) B, most surprising first: the tokens of the chosen captions (k,) whose surprise is at least the
    fraction `outlier` of the largest; none where nothing is chosen."""
    if len(chosen) == 0:
        return torch.empty(0, dtype=torch.long)
    ids, _, surprise = tk.surprise(tokens[chosen], tk.caption_counts(tokens), len(tokens))
    order = surprise.sort(descending=True)
    return ids[order.indices[order.values >= outlier * order.values[0]]]
