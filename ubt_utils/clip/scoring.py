"""How alike picture and caption of each pair are under a model."""

from __future__ import annotations

from collections.abc import Iterator

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
    if len(images) != len(tokens):
        raise ValueError(f"{len(images)} pictures and {len(tokens)} captions make no pairs")

    def score(rows: slice) -> torch.Tensor:
        embedded = _embedded(model, images, tokens, rows, block)
        return torch.cat([torch.empty(0), *(torch.linalg.vecdot(z, t) for z, t in embedded)])

    return distributed.together(score, len(tokens))


def _embedded(
    model: nn.Module, images: Images, tokens: torch.Tensor, rows: slice, block: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    starts = range(rows.start, rows.stop, block)
    for start in tqdm(starts, "score", unit="block", disable=len(starts) < 2 or not distributed.first()):
        part = slice(start, min(start + block, rows.stop))
        yield models.embed_images(model, take(images, part)), models.embed_tokens(model, tokens[part])
