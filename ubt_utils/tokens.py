"""Which tokens of the suspicious captions carry the backdoor (METHOD step 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ubt_utils import models
from ubt_utils.kernels.occlusion import inner, occlusion

END = 49407  # CLIP's end mark, its largest token


@dataclass(frozen=True)
class TokenEvidence:
    """Per token that occurs in the captions of D_u, all (T,): ids; count, the captions of D_u
    that carry it; surprise, see `surprise`; drop, the fall in cos(image, caption) when the
    token is left out, averaged over all of D_u.
    """

    ids: torch.Tensor
    count: torch.Tensor
    surprise: torch.Tensor
    drop: torch.Tensor


def inner_tokens(caption: torch.Tensor) -> list[int]:
    """The tokens of one caption (L,) in order, without padding, start and end marks."""
    return caption[inner(caption[None])[0]].tolist()


def carries(tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """(N,) bool: which captions (N, L) hold one of the tokens `ids`."""
    return (torch.isin(tokens, ids) & inner(tokens)).any(dim=1)


def caption_counts(tokens: torch.Tensor) -> torch.Tensor:
    """(V,) in how many of the captions (N, L) each inner token occurs; marks and padding are 0."""
    ordered = torch.where(inner(tokens), tokens, END).sort(dim=1).values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    counts = torch.bincount(ordered[first], minlength=END + 1)
    counts[END] = 0
    return counts


def surprise(tokens: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How far more often tokens occur in the chosen captions than in all of D.

    tokens: (N, L), all of D. chosen: (m,) indices. Returns the T occurring ids, their counts
    (T,) and G = k·log((k/m)/p) (T,). [ours]: the chosen side's term of the log-likelihood
    ratio of Dunning (1993). Raises ValueError when nothing is chosen.
    """
    if len(chosen) == 0:
        raise ValueError("no captions chosen: token statistics need at least one")
    inside, everywhere = caption_counts(tokens[chosen]), caption_counts(tokens)
    ids = inside.nonzero().flatten()
    if len(ids) == 0:
        raise ValueError("the chosen captions have no words")
    count = inside[ids].double()
    return ids, count, count * torch.log(count / len(chosen) / (everywhere[ids] / len(tokens)))


def evidence(tokens: torch.Tensor, chosen: torch.Tensor, drops: torch.Tensor) -> TokenEvidence:
    """Frequency and attribution of every token in the chosen captions.

    tokens: (N, L) of D. chosen: (k,) indices of D_u. drops: (k, L), their occlusion.
    """
    ids, count, g = surprise(tokens, chosen)
    total = torch.stack([drops[tokens[chosen] == t].sum() for t in ids.tolist()])
    return TokenEvidence(ids, count, g, total / len(chosen))


def without(tokens: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """Captions without the dropped tokens: (N, L) → (N, L), the rest moved up, padded with 0."""
    keep = ~torch.isin(tokens, dropped)  # padding is 0 and last, kept or dropped
    order = torch.sort((~keep).long(), dim=1, stable=True).indices
    return torch.where(keep, tokens, 0).gather(1, order)


def vocabulary(tokens: torch.Tensor, common: float) -> torch.Tensor:
    """(M,) the inner tokens of the captions (N, L) with repeats, so that a draw is by frequency; tokens
    that more than the fraction `common` of the captions carry are left out, unless all are like that."""
    told = tokens[inner(tokens)]
    rare = caption_counts(tokens)[told] <= common * len(tokens)
    return told[rare] if rare.any() else told


def swapped(tokens: torch.Tensor, dropped: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    """Captions (N, L) with `word` in every place of a dropped token."""
    return torch.where(torch.isin(tokens, dropped) & inner(tokens), word, tokens)


def occlude(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(N, L) occlusion of captions (N, L) of pictures (N, 3, H, W) uint8 under the model."""
    return occlusion(partial(models.embed_without_each, model), tokens, models.embed_images(model, images))
