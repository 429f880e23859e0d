"""Detectors by the loss of the backdoored model."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.core.seeding import generator

BATCH = 256


def pair_loss(images: torch.Tensor, texts: torch.Tensor, scale: float, batch: int = BATCH) -> torch.Tensor:
    """(N,) each pair's own contrastive loss among a random batch of about `batch` of D.

    images, texts: (N, D) unit embeddings. scale: the model's temperature, multiplied.
    """
    loss = torch.zeros(len(images))
    order = torch.randperm(len(images), generator=generator("pair loss"))
    for part in order.tensor_split(max(1, len(order) // batch)):  # in a short one all losses would be low
        loss[part] = pair_losses(images[part], texts[part], scale)
    return loss


def pair_losses(images: torch.Tensor, texts: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """(B,) what each pair of a batch adds to CLIP's loss: the mean cross-entropy of its row and its column.

    images, texts: (B, D) unit embeddings, gradients included. scale: the temperature, multiplied.
    """
    with torch.autocast(images.device.type, enabled=False):
        logits, own = scale * images @ texts.T, torch.arange(len(images), device=images.device)
        rows, columns = (F.cross_entropy(x, own, reduction="none") for x in (logits, logits.T))
        return (rows + columns) / 2


def abl_loss(scores: Scores) -> torch.Tensor:
    """Lowest contrastive loss [related: ABL, arXiv 2110.11571, isolates what is learned best; after the
    victim's training instead of during it: ours]."""
    return -pair_loss(*scores.embedded(), scores.scale)
