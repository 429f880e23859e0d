"""Which pairs to unlearn (METHOD step 3): selection and token evidence inform each other.

[paper] Fewer, suspicious samples are selected after overfit training. [ours] On a set with
badly captioned pairs the plain rank by overfit similarity is not enough. Poison and noise
differ in that poison agrees with itself: one word is told far too often in the pool. The
pairs that carry that word are kept, and ranked by the overfit similarity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ubt_utils import tokens as tk


@dataclass(frozen=True)
class Selection:
    """chosen: (k,) indices of D_u, most suspicious first. score: (N,) what ranked them;
    pairs that carry the anchor come first, then the rest of the pool, −inf outside.
    anchor: the token that the pool tells too often. compromised: (b,) the tokens B.
    """

    chosen: torch.Tensor
    score: torch.Tensor
    anchor: int
    compromised: torch.Tensor


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
    ids, _, surprise = tk.surprise(tokens, pool.nonzero().flatten())
    anchor = ids[surprise.argmax()]
    carriers = pool & tk.carries(tokens, anchor)
    score = torch.where(pool, overfit + 2.0 * carriers, -torch.inf)  # cosines span 2
    chosen = score.sort(descending=True, stable=True).indices[: min(top, int(carriers.sum()))]
    ids, _, surprise = tk.surprise(tokens, chosen)
    order = surprise.sort(descending=True)
    keep = order.values >= outlier * order.values[0]
    return Selection(chosen, score, int(anchor), ids[order.indices[keep]])
