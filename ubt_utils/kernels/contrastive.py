"""The contrastive loss of CLIP in blocks: no B × B matrix is ever held.

Forward and backward each pass once over blocks of rows; the backward pass computes the logits again. The
sums that both need, one per picture and one per caption, are all that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.autograd.function import once_differentiable

ROWS = 256


def blockwise_clip_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, rows: int = ROWS
) -> torch.Tensor:
    """The loss of open_clip's `ClipLoss` on one process, value and gradient.

    images, texts: (B, D) embeddings, pair by pair. scale: () what cosines are multiplied with. rows: how
    many pictures stand against all captions at once. Radford et al., arXiv 2103.00020, figure 3. Raises
    ValueError where the two do not fit together.
    """
    if images.shape != texts.shape or images.dim() != 2 or len(images) == 0:
        raise ValueError(f"pairs of embeddings (B, D) are needed, got {images.shape} and {texts.shape}")
    wide = torch.promote_types(images.dtype, torch.float32)  # sums of half precision would be no sums
    with torch.autocast(images.device.type, enabled=False):
        return _Blockwise.apply(images.to(wide), texts.to(wide), scale.to(wide), rows)


def _blocks(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, rows: int) -> Iterator:
    """Per block of pictures: where it is, and its logits against all captions, in one buffer."""
    buffer = images.new_empty(min(rows, len(images)), len(texts))
    for start in range(0, len(images), rows):
        part = slice(start, min(start + rows, len(images)))
        logits = buffer[: part.stop - start]
        torch.mm(images[part], texts.T, out=logits)
        yield part, logits.mul_(scale)


class _Blockwise(torch.autograd.Function):
    """With logits l and their sums r_i = logsumexp_j l_ij and c_j = logsumexp_i l_ij, the loss is the mean of
    (r_i + c_i) / 2 − l_ii; its derivative by l_ij is (exp(l_ij − r_i) + exp(l_ij − c_j)) / 2B − [i = j] / B.
    """

    @staticmethod
    def forward(context, images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, rows: int):
        by_row, top = images.new_empty(len(images)), images.new_full((len(images),), -torch.inf)
        total = torch.zeros_like(top)  # of exp(l − top), per caption
        for part, logits in _blocks(images, texts, scale, rows):
            by_row[part] = logits.logsumexp(1)
            higher = torch.maximum(top, logits.amax(0))
            total = total * (top - higher).exp() + logits.sub_(higher).exp_().sum(0)
            top = higher
        by_column = top + total.log()
        context.save_for_backward(images, texts, scale, by_row, by_column)
        context.rows = rows
        own = scale * torch.linalg.vecdot(images, texts)
        return ((by_row + by_column) / 2 - own).mean()

    @staticmethod
    @once_differentiable
    def backward(context, share: torch.Tensor):
        images, texts, scale, by_row, by_column = context.saved_tensors
        for_images, for_texts = torch.empty_like(images), torch.zeros_like(texts)
        room = images.new_empty(min(context.rows, len(images)), len(texts))
        for part, logits in _blocks(images, texts, scale, context.rows):
            slope = torch.sub(logits, by_row[part, None], out=room[: len(logits)]).exp_()
            slope += logits.sub_(by_column).exp_()
            torch.mm(slope, texts, out=for_images[part])
            for_texts.addmm_(slope.T, images[part])
        for_images.div_(2).sub_(texts)  # in place: at this size each copy counts
        for_texts.div_(2).sub_(images)
        share = share / len(images)
        with torch.autocast(images.device.type, enabled=False):
            for_scale = torch.linalg.vecdot(images, for_images).sum()  # what logits say, times their slope
        for_images *= share * scale
        for_texts *= share * scale
        return for_images, for_texts, (share * for_scale).reshape(scale.shape), None
