"""A caption and all it becomes when one token is left out, written once: their shared prefixes share nodes.

In a causal text tower what stands before a token does not depend on it. The n shortened forms of a caption of
n inner tokens differ from it only behind the gap, so that the tower needs n(n + 1)/2 further places instead
of n(n + 1): all of them in one sequence, in which each place sees its own past alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch


class Tree(NamedTuple):
    """The nodes of a caption of n inner tokens. source: (L,) the place of the caption that a node's token is
    taken from. place: (L,) the node's place in its own caption. mask: (L, L), 0 where the column is seen by
    the row, −inf elsewhere. ends: (n + 1,) the end marks: of the whole, then without token 1, 2, …, n."""

    source: torch.Tensor
    place: torch.Tensor
    mask: torch.Tensor
    ends: torch.Tensor


@lru_cache(maxsize=128)
def tree(n: int) -> Tree:
    """The nodes for n ≥ 0 inner tokens: the caption itself, then per token left out what comes after it."""
    whole = torch.arange(n + 2)  # start mark, inner tokens, end mark
    tails = [torch.arange(gap + 1, n + 2) for gap in range(1, n + 1)]
    source = torch.cat([whole, *tails])
    length = torch.tensor([len(part) for part in (whole, *tails)])
    branch = torch.arange(n + 1).repeat_interleave(length)  # 0: the caption itself, else the token left out
    own = (branch[:, None] == branch) & (source <= source[:, None])
    seen = own | ((branch == 0) & (source < branch[:, None]))  # what a branch shares with the caption
    mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    return Tree(source, source - (branch > 0).long(), mask, length.cumsum(0) - 1)
