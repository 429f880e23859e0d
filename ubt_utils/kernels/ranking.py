"""The k largest scores of a stream: never more than k and a block in memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def pair_similarity(blocks: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Iterable[torch.Tensor]:
    """Per block of unit embeddings of pictures and captions (B, D) each, cos of each pair (B,)."""
    for images, texts in blocks:
        yield torch.linalg.vecdot(images, texts)


def top(scores: Iterable[torch.Tensor], k: int, largest: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest (or smallest) of all scores, in order, and their places in the stream: (k,) and (k,).

    scores: blocks (B,) of any length, in the stream's order. Of equal ones the earlier comes first, as in a
    stable sort; the result does not depend on where blocks end. Fewer than k where the stream is short.
    Raises ValueError for k < 1 and for NaN, which has no rank.
    """
    if k < 1:
        raise ValueError(f"at least one score must be asked for, got k={k}")
    best, places, seen = torch.empty(0), torch.empty(0, dtype=torch.long), 0
    for block in scores:
        if block.isnan().any():
            raise ValueError(f"the score at place {seen + int(block.isnan().nonzero()[0])} is not a number")
        best, places = best.to(block), places.to(block.device)
        here = torch.arange(seen, seen + len(block), device=block.device)
        seen += len(block)
        if len(best) == k:  # most of a block is no candidate
            strong = block > best[-1] if largest else block < best[-1]
            block, here = block[strong], here[strong]
        ranked = torch.cat([best, block]).sort(descending=largest, stable=True)
        best, places = ranked.values[:k], torch.cat([places, here])[ranked.indices[:k]]
    return best, places
