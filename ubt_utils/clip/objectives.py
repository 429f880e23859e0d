"""What a batch is trained for: CLIP's contrastive loss, of one process or of the shares of several ranks."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import torch
from open_clip.loss import gather_features
from torch import nn

from ubt_utils.clip import models
from ubt_utils.core import distributed
from ubt_utils.kernels.contrastive import blockwise_clip_loss

Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor, int], torch.Tensor]
LARGE = 1024  # pairs of a batch from which the loss goes by blocks: results/benchmarks/contrastive.json


def gathered(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tables (B, D), each with the rows of all ranks below one another, gradients included."""
    return gather_features(one, other, gather_with_grad=True) if distributed.count() > 1 else (one, other)


def clip_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss of unit embeddings (B, D), pair by pair: open_clip's ClipLoss, or in blocks where a matrix
    of the whole batch would be large; in single precision, whatever the towers computed in. Of several ranks
    each has its share, and the loss is of the whole."""
    with torch.autocast(images.device.type, enabled=False):
        if len(images) * distributed.count() <= LARGE:
            loss = open_clip.ClipLoss(
                gather_with_grad=True, rank=distributed.rank(), world_size=distributed.count()
            )
            return loss(images, texts, scale)
        return blockwise_clip_loss(*gathered(images, texts), scale)


def contrastive(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
    """`clip_loss` of a batch: normalized images (B, 3, H, W), tokens (B, L)."""
    return clip_loss(*models.embed_pairs(model, images, tokens))
