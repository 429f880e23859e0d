"""Other ways to the compromised tokens B than their frequency: by what holds picture and caption together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils import device, models
from ubt_utils import tokens as tk
from ubt_utils.defenses.base import OVERFIT, View
from ubt_utils.kernels.occlusion import inner
from ubt_utils.profiles.base import Select

SHARE = Select.outlier  # of the largest total, from which a token counts as compromised


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
        told = F.normalize(model.encode_text(tokens.to(where)), dim=-1)
    finally:
        hook.remove()
    cosine = (models.embed_images(model, images).to(where) * told).sum()
    (gradient,) = torch.autograd.grad(cosine, kept[0])
    return (gradient * kept[0]).sum(-1).detach().cpu() * inner(tokens)


WAYS = {"occlusion": tk.occlude, "gradient": saliency}


def compromised(view: View, by: str) -> torch.Tensor:
    """(b,) tokens of D_u whose attribution, summed over D_u and averaged over the two overfit models, is at
    least half of the largest. by: occlusion or gradient; ValueError for another way.
    """
    if by not in WAYS:
        raise ValueError(f"unknown attribution {by!r}; known: surprise, {', '.join(WAYS)}")
    images, tokens = view.pairs.images[view.suspicious], view.tokens[view.suspicious]
    total = torch.stack([WAYS[by](view.model(name), images, tokens) for name in OVERFIT]).mean(0)
    found = tk.evidence(view.tokens, view.suspicious, total)
    most = found.drop.max()
    return found.ids[found.drop >= min(SHARE * most, most)]  # never empty, even where nothing holds
