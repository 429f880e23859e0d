"""The suspicious pairs, one row each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from ubt_utils.own.chain import OwnChain
from ubt_utils.own.phrases import WHY
from ubt_utils.ubt import tokens as tk


def suspicious(run: OwnChain) -> pd.DataFrame:
    """The pairs that suffer like poison, the unlearning set first, then by how much they suffer; none where
    nothing was found.

    row: the pair's number in D, from 0, among those that can be read. path: of its picture, as the table
    writes it, or its member of the shard. source: the line of the table, or the shard. s0, sb, overfit:
    cosine of picture and caption under the public model (no number: none was named), under the given one, and
    under the overfit one (no number: outside the pool). why: what speaks against it.
    """
    pairs, _ = run.poisoned
    scores, _ = run.scores
    suffers, chosen = run.suspected.arrays()["suffers"], run.selected.arrays()["chosen"]
    rest = (suffers >= run.profile.select.alike).nonzero().flatten()
    rest = rest[~torch.isin(rest, chosen)]
    rest = rest[suffers[rest].sort(descending=True, stable=True).indices]
    order = torch.cat([chosen, rest])
    why = _why(run, order, len(chosen), suffers)
    sources = [pairs.sources[i] for i in order.tolist()]
    paths = run.sets.paths(frozenset(sources))
    table = pd.DataFrame(
        {
            "row": order.numpy(),
            "path": [paths.get(source) for source in sources],
            "source": sources,
            "caption": [pairs.captions[i] for i in order.tolist()],
            "s0": scores.public[order].numpy(),
            "sb": scores.backdoored[order].numpy(),
            "overfit": scores.overfit[order].numpy(),
            "why": pd.Series(why, dtype=object),
        }
    )
    return table.replace(-np.inf, np.nan)  # outside the pool


def _why(run: OwnChain, order: torch.Tensor, chosen: int, suffers: torch.Tensor) -> list[str]:
    """Per pair: the found word that its caption holds, what breaks the pair, and what becomes of it."""
    found, anchors = run.suspected.metrics["found"], run.suspected.arrays()["anchors"]
    holds = [tk.carries(run.tokens[order], anchor[None]) for anchor in anchors]
    why = []
    for i, index in enumerate(order.tolist()):
        one = next(word for word, held in zip(found, holds, strict=True) if held[i])
        phrase = WHY["unlearn" if i < chosen else "leave out"]
        why.append(
            phrase.format(word=one["word"], breaks=", ".join(one["witnesses"]), part=suffers[index].item())
        )
    return why
