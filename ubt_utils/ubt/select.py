"""Step 3, suspicious-sample detection: which few pairs to unlearn, and which to leave out.

[paper] Fewer, suspicious samples are selected after overfit training. [ours] how. Where many honest captions
fit their picture badly, the plain rank by overfit similarity is not enough; but poison, unlike noise, agrees
with itself. So the captions vote:

1. `vote`: which word do suspicious captions hold far more often than D does? It names the target: the anchor.
2. `select`: the pool's pairs whose caption holds the anchor are its carriers; the k of them that the overfit
   models find most similar are the unlearning set D_u. The words that D_u holds more often than D are the
   compromised tokens B.
3. `alike`, the second look: poison that f0 finds plausible stays outside the pool, and would teach the rule
   again. Pairs out there that carry B and gained from the poisoned training like D_u are left out of D_safe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.settings import Select

VOTERS = (0.5, 1.0)  # parts of the pool that vote, best by overfit similarity first; the louder one counts
COMMON = 0.02  # a word that more of the captions outside the pool hold is language, not an attack
ALIKE = 0.5  # of D_u's median gain sb − s0: a carrier of B outside the pool with that much is left out
VOTES = 4  # at most, where D_u may hold several words


class Vote(NamedTuple):
    """The words of those that voted: ids, count and surprise (T,), see `tokens.surprise`; how many voted."""

    ids: torch.Tensor
    count: torch.Tensor
    surprise: torch.Tensor
    voters: int

    def loudest(self) -> int:
        """The token of the largest surprise: the anchor."""
        return int(self.ids[self.surprise.argmax()])

    def loudness(self) -> float:
        """Its surprise."""
        return self.surprise.max().item()


@dataclass(frozen=True)
class Selection:
    """chosen: (k,) indices of D_u, most suspicious first. score: (N,) what ranked them: carriers of the
    anchor first, then the rest of the pool, −inf outside. anchor: the vote's token. compromised: (b,) the
    tokens B."""

    chosen: torch.Tensor
    score: torch.Tensor
    anchor: int
    compromised: torch.Tensor


def vote(tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor) -> Vote:
    """Which words the pool's captions hold too often.

    tokens: (N, L) of D. overfit: (N,) similarity under the overfit models. pool: (N,) bool.

    The better half of the pool sees the poison more clearly where noise fills the pool. Where all captions
    are right, poison is what f0 and the overfit models like least, and only the whole pool holds it. So both
    vote, and the more surprised one counts.
    """
    best_first = torch.where(pool, overfit, -torch.inf).sort(descending=True, stable=True).indices
    common = common_words(tokens[~pool])
    sizes = [math.ceil(part * int(pool.sum())) for part in VOTERS]
    return max((_vote_of(tokens, best_first[:n], common) for n in sizes), key=Vote.loudness)


def _vote_of(tokens: torch.Tensor, voters: torch.Tensor, common: torch.Tensor) -> Vote:
    """The vote of the captions `voters` (m,); common words have none, unless all words are common."""
    ids, count, surprise = tk.surprise(tokens, voters)
    counts = ~common[ids]
    if not counts.any():
        counts = torch.ones_like(counts)
    return Vote(ids[counts], count[counts], surprise[counts], len(voters))


def common_words(captions: torch.Tensor) -> torch.Tensor:
    """(V,) bool: tokens that more than 2 % of the captions (n, L) hold. Where D mixes captions of two styles,
    the pool has more of one, and its commonest words would win."""
    return tk.caption_counts(captions) > COMMON * len(captions)


def select(tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor, how: Select) -> Selection:
    """The unlearning set D_u and the compromised tokens B; arguments as in `vote`."""
    return _select(tokens, overfit, pool, how, vote(tokens, overfit, pool).loudest())


def _select(
    tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor, how: Select, anchor: int
) -> Selection:
    carriers = pool & tk.carries(tokens, torch.tensor([anchor]))
    score = torch.where(pool, overfit + 2.0 * carriers, -torch.inf)  # cosines span 2
    k = min(how.top, int(carriers.sum()))
    chosen = score.sort(descending=True, stable=True).indices[:k]
    return Selection(chosen, score, anchor, tokens_of(tokens, chosen, how.outlier))


def select_in_turn(
    tokens: torch.Tensor, overfit: torch.Tensor, pool: torch.Tensor, how: Select
) -> list[Selection]:
    """Selections of several votes [ours]: an attacker may have several targets, or several words for one.

    After each vote all pairs that carry its word step aside and the rest votes again, at most 4 times, until
    the loudest word is below the fraction `outlier` of the first one. Indices and scores are those of D.
    """
    found: list[Selection] = []
    left, bar = torch.arange(len(tokens)), 0.0
    while len(found) < VOTES and pool[left].any():
        given = tokens[left], overfit[left], pool[left]
        voted = vote(*given)
        if voted.loudness() < bar:
            break
        bar = bar or how.outlier * voted.loudness()
        one = _select(*given, how, voted.loudest())
        score = torch.full((len(tokens),), -torch.inf).index_copy(0, left, one.score)
        found.append(Selection(left[one.chosen], score, one.anchor, one.compromised))
        left = left[~tk.carries(tokens[left], torch.tensor([one.anchor]))]
    return found


def tokens_of(tokens: torch.Tensor, chosen: torch.Tensor, outlier: float) -> torch.Tensor:
    """(b,) B, most surprising first: the tokens of the chosen captions (k,) whose surprise is at least the
    fraction `outlier` of the largest."""
    ids, _, surprise = tk.surprise(tokens, chosen)
    order = surprise.sort(descending=True)
    return ids[order.indices[order.values >= outlier * order.values[0]]]


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
