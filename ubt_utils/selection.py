"""Which pairs to unlearn (METHOD step 3): selection and token evidence inform each other.

[paper] Fewer, suspicious samples are selected after overfit training. [ours] On a set with
badly captioned pairs the plain rank by overfit similarity is not enough. Poison and noise
differ in that poison agrees with itself: one word is told far too often in the half of the pool
that the overfit model likes best, or in all of it. The pairs that carry that word are kept, and ranked by the
overfit similarity. Words that are common outside the pool have no vote: where D mixes captions
of two styles, the pool holds more of one style, and its commonest words would win.

[ours] Poison that f0 finds plausible stays outside the pool, and would teach the rule again
while D_safe is retained. Once B is known, pairs outside the pool that carry it get a second look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ubt_utils import tokens as tk
from ubt_utils.kernels import ranking

VOTERS = (0.5, 1.0)  # parts of the pool, best by overfit similarity first: the louder one has its say
ROUNDS = 4  # votes at most, where D_u may hold several words
ALIKE = 0.5  # of D_u's median gain sb − s0: a carrier of B outside the pool with that much is left out
COMMON = 0.02  # a word that more of the captions outside the pool carry is language, not an attack


@dataclass(frozen=True)
class Selection:
    """chosen: (k,) indices of D_u, most suspicious first. score: (N,) what ranked them;
    pairs that carry the anchor come first, then the rest of the pool, −inf outside.
    anchor: the token that the vote has named. compromised: (b,) the tokens B.
    """

    chosen: torch.Tensor
    score: torch.Tensor
    anchor: int
    compromised: torch.Tensor


class Vote(NamedTuple):
    """What a part of the pool tells too often: ids, count and surprise (T,), see `tokens.surprise`, and how
    many captions voted."""

    ids: torch.Tensor
    count: torch.Tensor
    surprise: torch.Tensor
    voters: int


def vote(tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor) -> Vote:
    """Which words the pool tells too often: its better half, or all of it where that is more surprised.

    The better half sees the poison more clearly where noise fills the pool; where all captions are right,
    poison is what f0 and the overfit model like least, and only the whole pool holds it. Words that
    more than 2 % of the captions outside the pool carry are left out, unless all are like that.
    """
    order = torch.where(pool, overfit, -torch.inf).sort(descending=True, stable=True).indices
    everywhere = tk.caption_counts(tokens[~pool]) > COMMON * int((~pool).sum())

    def of(part: float) -> Vote:
        voters = math.ceil(part * int(pool.sum()))
        ids, count, surprise = tk.surprise(tokens, order[:voters])
        rare = ~everywhere[ids] if not everywhere[ids].all() else torch.ones_like(ids, dtype=torch.bool)
        return Vote(ids[rare], count[rare], surprise[rare], voters)

    return max((of(part) for part in VOTERS), key=lambda told: told.surprise.max().item())


def carriers_outside(tokens: torch.Tensor, pool: torch.Tensor, compromised: torch.Tensor) -> torch.Tensor:
    """(c,) indices of the pairs outside the pool (N,) whose captions (N, L) carry B (b,)."""
    return (~pool & tk.carries(tokens, compromised)).nonzero().flatten()


def least_gain(known: torch.Tensor) -> float:
    """The gain from which a carrier outside the pool looks like D_u, whose gains sb − s0 are `known` (k,):
    how much closer the poisoned training has brought picture and caption."""
    return ALIKE * known.median().item()


def alike(known: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """(c,) bool: which of the gains `asked` (c,) reach the least gain; none where D_u gained nothing."""
    least = least_gain(known)
    return (asked >= least) & (least > 0)


def select(
    tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor, top: int, outlier: float
) -> Selection:
    """Choose the unlearning set D_u and the compromised tokens B.

    tokens: (N, L) of D. overfit: (N,) similarity under the overfit model, higher = more
    suspicious. pool: (N,) bool. top: at most this many pairs. outlier: B is every token
    whose surprise in D_u is at least this fraction of the largest.
    """
    if not 0 < outlier <= 1:
        raise ValueError(f"outlier must be in (0, 1], got {outlier}")
    if top < 1:
        raise ValueError(f"the unlearning set needs at least one pair, got top={top}")
    ids, _, surprise, _ = vote(tokens, overfit, pool)
    anchor = ids[surprise.argmax()]
    carriers = pool & tk.carries(tokens, anchor)
    score = torch.where(pool, overfit + 2.0 * carriers, -torch.inf)  # cosines span 2
    chosen = ranking.top([score], min(top, int(carriers.sum())))[1]
    return Selection(chosen, score, int(anchor), tokens_of(tokens, chosen, outlier))


def rounds(
    tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor, top: int, outlier: float
) -> list[Selection]:
    """Selections of several votes [ours]: an attacker may have several targets, or several words for one.

    After each vote all pairs that carry its word step aside and the rest votes again, at most 4 times, until
    the loudest word is below the fraction `outlier` of the first one. Indices are those of D; scores are
    those of the pairs still there, −inf elsewhere.
    """
    left, found, loudness = torch.arange(len(tokens)), [], 0.0
    while len(found) < ROUNDS and pool[left].any():
        loud = vote(tokens[left], overfit[left], pool[left]).surprise.max().item()
        loudness = max(loudness, loud) if not found else loudness
        if loud < outlier * loudness:
            break
        one = select(tokens[left], overfit[left], pool[left], top, outlier)
        score = torch.full((len(tokens),), -torch.inf).index_copy(0, left, one.score)
        found.append(Selection(left[one.chosen], score, one.anchor, one.compromised))
        left = left[~tk.carries(tokens[left], torch.tensor([one.anchor]))]
    return found


def tokens_of(tokens: torch.Tensor, chosen: torch.Tensor, outlier: float) -> torch.Tensor:
    """(b,) B, most surprising first: the tokens of the chosen captions whose surprise is at least the
    fraction `outlier` of the largest."""
    ids, _, surprise = tk.surprise(tokens, chosen)
    order = surprise.sort(descending=True)
    return ids[order.indices[order.values >= outlier * order.values[0]]]
