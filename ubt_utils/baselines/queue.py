"""A queue of embeddings that a training asks for its nearest ones, and that its checkpoints hold.

The queues of RoCLIP (arXiv 2303.06854) and SafeCLIP (arXiv 2310.05862) are those of NNCLR (arXiv 2104.14548):
first in, first out, asked before the batch itself goes in, and no gradient flows into them [related].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def held(model: nn.Module, **buffers: torch.Tensor) -> Iterator[None]:
    """The model has these buffers while it trains, so that a run which goes on after a kill has them as they
    were [ours]; it is left without them."""
    for name, start in buffers.items():
        model.register_buffer(name, start.to(next(model.parameters()).device))
    try:
        yield
    finally:
        for name in buffers:
            delattr(model, name)


def empty(size: int, width: int) -> torch.Tensor:
    """(size, width) of a queue that holds nothing: at cosine 0 to everything, so that it pulls nowhere.
    Raises ValueError for no places."""
    if size < 1:
        raise ValueError(f"a queue needs a place at least, got {size}")
    return torch.zeros(size, width)


def width_of(model: nn.Module) -> int:
    """How many numbers an embedding of the model has."""
    projection = model.text_projection
    return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]


@torch.no_grad()
def nearest(queue: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """(B, D) of the queue (Q, D), the one of the highest cosine to each unit embedding (B, D)."""
    return queue[(embeddings @ queue.T).argmax(1)]


@torch.no_grad()
def push(queue: torch.Tensor, embeddings: torch.Tensor) -> None:
    """Put embeddings (B, D) in, in place; as many of the oldest fall out."""
    queue.copy_(torch.cat([embeddings.detach().to(queue), queue])[: len(queue)])
