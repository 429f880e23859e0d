"""Step 4, tokens: what a caption's words are worth, and which of them carry the backdoor.

[paper] Unlearning concerns a part of the tokens. [ours] which: those that D_u holds far more often than D
(`surprise`), or those that hold picture and caption together under the overfit models (`compromised`, by
occlusion or by gradient), for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.clip import models
from ubt_utils.core import device
from ubt_utils.kernels.occlusion import inner, occlusion

END = 49407  # CLIP's end mark, its largest token
SHARE = 0.5  # of the largest attribution, from which a token counts as compromised


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


def carriers_of(tokens: torch.Tensor, ids: torch.Tensor) -> list[torch.Tensor]:
    """For each of the tokens `ids` (w,) the captions (N, L) that hold it, as indices (n,) in order."""
    rows, places = inner(tokens).nonzero(as_tuple=True)
    said = tokens[rows, places]
    asked = torch.isin(said, ids)
    held = (said[asked].long() * len(tokens) + rows[asked]).unique()
    word, row = held // len(tokens), held % len(tokens)
    first = torch.searchsorted(word, ids.long())
    last = torch.searchsorted(word, ids.long(), right=True)
    return [row[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]


def caption_counts(tokens: torch.Tensor) -> torch.Tensor:
    """(V,) in how many of the captions (N, L) each inner token occurs; marks and padding are 0."""
    counts = torch.zeros(END + 1, dtype=torch.long)
    for part in tokens.split(models.AT_A_TIME):  # so that what is sorted stays small
        ordered = torch.where(inner(part), part, END).sort(dim=1).values
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        counts += torch.bincount(ordered[first], minlength=END + 1)
    counts[END] = 0
    return counts


def surprise(
    said: torch.Tensor, everywhere: torch.Tensor, captions: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How far more often tokens occur in the chosen captions than in all of D.

    said: (m, L), the chosen ones. everywhere: (V,), the `caption_counts` of all `captions` of D. Returns the
    T occurring ids, their counts (T,) and G = k·log((k/m)/p) (T,). [ours]: the chosen side's term of the
    log-likelihood ratio of Dunning (1993). Raises ValueError when nothing is chosen.
    """
    if len(said) == 0:
        raise ValueError("no captions chosen: token statistics need at least one")
    inside = caption_counts(said)
    ids = inside.nonzero().flatten()
    if len(ids) == 0:
        raise ValueError("the chosen captions have no words")
    count = inside[ids].double()
    return ids, count, count * torch.log(count / len(said) / (everywhere[ids] / captions))


def evidence(tokens: torch.Tensor, chosen: torch.Tensor, drops: torch.Tensor) -> TokenEvidence:
    """Frequency and attribution of every token in the chosen captions.

    tokens: (N, L) of D. chosen: (k,) indices of D_u. drops: (k, L), their occlusion.
    """
    ids, count, g = surprise(tokens[chosen], caption_counts(tokens), len(tokens))
    total = torch.stack([drops[tokens[chosen] == t].sum() for t in ids.tolist()])
    return TokenEvidence(ids, count, g, total / len(chosen))


def without(tokens: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """Captions without the dropped tokens: (N, L) → (N, L), the rest moved up, padded with 0."""
    return kept(tokens, ~torch.isin(tokens, dropped))  # padding is 0 and last, kept or dropped


def kept(tokens: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Captions (N, L) of the tokens at which `keep` (N, L) is true, moved up, padded with 0."""
    order = torch.sort((~keep).long(), dim=1, stable=True).indices
    return torch.where(keep, tokens, 0).gather(1, order)


def vocabulary(tokens: torch.Tensor, common: torch.Tensor, barred: torch.Tensor) -> torch.Tensor:
    """(M,) the inner tokens of the captions (N, L) with repeats, so that a draw is by frequency.

    Tokens that are `common` (V,) bool are left out, unless all are; those `barred` (b,) always: the
    compromised tokens may not stand in for themselves. Raises ValueError where nothing is left.
    """
    said = tokens[inner(tokens)]
    said = said[~torch.isin(said, barred)]
    if len(said) == 0:
        raise ValueError("the captions of D_safe hold no word but the compromised ones")
    rare = ~common[said]
    return said[rare] if rare.any() else said


def swapped(tokens: torch.Tensor, dropped: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    """Captions (N, L) with `word` in every place of a dropped token."""
    return torch.where(torch.isin(tokens, dropped) & inner(tokens), word, tokens)


def occlude(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(N, L) occlusion of captions (N, L) of pictures (N, 3, H, W) uint8 under the model."""
    return occlusion(partial(models.embed_without_each, model), tokens, models.embed_images(model, images))


def saliency(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(N, L) gradient × embedding of cos(image, caption) in each token's embedding; zero at marks.

    images: (N, 3, H, W) uint8. tokens: (N, L).
    """
    model.eval()
    where, kept = device.pick(), []

    def keep(_: nn.Module, __: object, out: torch.Tensor) -> torch.Tensor:
        kept.append(out.requires_grad_())
        return out

    hook = model.token_embedding.register_forward_hook(keep)
    try:
        captions = models.unit(models.encode_text(model, tokens.to(where)))
    finally:
        hook.remove()
    cosine = (models.embed_images(model, images).to(where) * captions).sum()
    (gradient,) = torch.autograd.grad(cosine, kept[0])
    found = (gradient * kept[0]).sum(-1).detach().cpu()  # captions are read no further than the longest goes
    return F.pad(found, (0, tokens.shape[1] - found.shape[1])) * inner(tokens)


WAYS = {"occlusion": occlude, "gradient": saliency}


def compromised(
    overfit: Sequence[nn.Module], images: torch.Tensor, tokens: torch.Tensor, chosen: torch.Tensor, by: str
) -> torch.Tensor:
    """(b,) tokens of D_u whose attribution, summed over D_u and averaged over the overfit models, is at least
    half of the largest.

    images: (k, 3, H, W) uint8 of D_u. tokens: (N, L) of D. chosen: (k,) indices of D_u. by: occlusion or
    gradient; ValueError for another way.
    """
    if by not in WAYS:
        raise ValueError(f"unknown attribution {by!r}; known: surprise, {', '.join(WAYS)}")
    total = torch.stack([WAYS[by](model, images, tokens[chosen]) for model in overfit]).mean(0)
    found = evidence(tokens, chosen, total)
    most = found.drop.max()
    return found.ids[found.drop >= min(SHARE * most, most)]  # never empty, even where nothing holds
