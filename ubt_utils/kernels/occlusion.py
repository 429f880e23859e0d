"""Token occlusion: how much each token of a caption holds image and text together."""

from __future__ import annotations

from collections.abc import Callable

import torch

Encode = Callable[[torch.Tensor], torch.Tensor]


def inner(tokens: torch.Tensor) -> torch.Tensor:
    """(N, L) bool: which places of captions (N, L) hold a token that is no mark and no padding.

    By place, not by value: CLIP pads with 0, which is also its token for "!".
    """
    place = torch.arange(tokens.shape[1], device=tokens.device)
    return (place > 0) & (place < tokens.argmax(dim=1, keepdim=True))


def without_each(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every caption with one inner token left out, for each of its inner tokens.

    tokens: (N, L) as CLIP's tokenizer writes them: start mark, inner tokens, end
    mark (the largest id of the row), zeros. Returns the M shortened captions (M, L), and
    for each the row (M,) and the position (M,) of the token left out.
    """
    column = torch.arange(tokens.shape[1], device=tokens.device)
    row, position = inner(tokens).nonzero(as_tuple=True)
    shifted = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], dim=1)
    short = torch.where(column[None] < position[:, None], tokens[row], shifted[row])
    return short, row, position


def occlusion(encode: Encode, tokens: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(N, L) drop of cos(image, caption) when a token is left out; zero at marks and padding.

    encode: (G, L) captions of n inner tokens each → (G, n + 1, D) unit embeddings, of the whole and without
    each inner token; called once per length, on distinct captions. images: (N, D) unit embeddings of the
    pictures.
    """
    drop = torch.zeros(tokens.shape, dtype=images.dtype, device=images.device)
    unique, back = tokens.unique(dim=0, return_inverse=True)
    counts = inner(unique).sum(1)
    for n in counts.unique().tolist():
        alike = (counts == n).nonzero().flatten()
        rows = torch.isin(back, alike).nonzero().flatten()
        z = encode(unique[alike])[torch.searchsorted(alike, back[rows])]
        cosine = torch.einsum("nd,ned->ne", images[rows], z)
        drop[rows, 1 : n + 1] = cosine[:, :1] - cosine[:, 1:]
    return drop
