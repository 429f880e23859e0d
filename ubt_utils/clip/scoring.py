"""How alike picture and caption of each pair are under a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from tqdm.auto import tqdm

from ubt_utils.clip import models
from ubt_utils.core import distributed
from ubt_utils.data.pictures import Images, take

BLOCK = (
    32_768  # pairs whose embeddings are held at a time; a caption that stands twice in a block is read once
)


def similarity(model: nn.Module, images: Images, tokens: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
    """(N,) float32 cos of picture (N, 3, H, W) uint8 and caption (N, L) under the model.

    Of the embeddings never more than a block is held; of several ranks each scores its rows, and all get all
    scores. A ValueError says where there are not as many pictures as captions.
    """
    return similarities(model, images, tokens, (None,), block)[0]


def similarities(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    changes: Sequence[models.Change | None],
    block: int = BLOCK,
) -> torch.Tensor:
    """(K, N) `similarity` of the pictures after each of K changes, the captions read once; None: as they
    are."""
    if len(images) != len(tokens):
        raise ValueError(f"{len(images)} pictures and {len(tokens)} captions make no pairs")

    def score(rows: slice) -> torch.Tensor:
        blocks = _blocks(model, images, tokens, changes, rows, block)
        return torch.cat([torch.empty(0, len(changes)), *blocks])

    return distributed.together(score, len(tokens)).T


def _blocks(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    changes: Sequence[models.Change | None],
    rows: slice,
    block: int,
) -> Iterator[torch.Tensor]:
    """(n, K) of the pairs of each block of `rows`."""
    todo = [(start, k) for start in range(rows.start, rows.stop, block) for k in range(len(changes))]
    bar = tqdm(todo, "score", unit="pass", disable=len(todo) < 2 or not distributed.first(), mininterval=1)
    columns: list[torch.Tensor] = []
    for start, k in bar:
        part = slice(start, min(start + block, rows.stop))
        if k == 0:
            texts, columns = models.embed_tokens(model, tokens[part]), []
        pictures = models.embed_images(model, take(images, part), change=changes[k])
        columns.append(torch.linalg.vecdot(pictures, texts))
        if len(columns) == len(changes):
            yield torch.stack(columns, 1)
