"""UBT's token-level unlearning (METHOD step 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils import device, models
from ubt_utils import tokens as tk
from ubt_utils.defenses.base import Session, View
from ubt_utils.seeding import generator
from ubt_utils.training import History, Objective, Recipe, contrastive, fit


def similarity_of(
    model: nn.Module, images: torch.Tensor, whole: torch.Tensor, cut: torch.Tensor | None
) -> torch.Tensor:
    """(B,) cos(image, whole caption), less cos(image, cut caption) where one is given.

    images: (B, 3, H, W) normalized. whole, cut: (B, L) captions with and without the
    compromised tokens. The gradient flows through the whole caption's term only, so that
    the rest of the caption is not pulled towards the picture.
    """
    z = F.normalize(model.encode_image(images), dim=-1)
    whole_cos = (z * F.normalize(model.encode_text(whole), dim=-1)).sum(-1)
    if cut is None:
        return whole_cos
    with torch.no_grad():
        rest = (z * F.normalize(model.encode_text(cut), dim=-1)).sum(-1)
    return whole_cos - rest


def forgetting(view: View, weight: float, level: str, *key: object) -> Objective:
    """L_CLIP on the batch of D_safe + weight · mean over D_u of relu(·)², by level:

    token [paper: token-level; form ours]: of what the compromised tokens add to the
    similarity. sample: of the similarity of the whole caption (pair-level, for comparison).
    """
    if level not in ("token", "sample"):
        raise ValueError(f"unknown unlearning level {level!r}; known: token, sample")
    where = device.pick()
    pictures = view.pairs.images[view.suspicious].float() / 255
    images = models.normalize(pictures.to(where))
    told = view.tokens[view.suspicious]
    whole, cut = told.to(where), tk.without(told, view.compromised).to(where)

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        retain = contrastive(model, batch, tokens, step)
        pick = torch.randperm(len(whole), generator=generator(*key, "forget", step))[: len(batch)].to(where)
        excess = similarity_of(model, images[pick], whole[pick], cut[pick] if level == "token" else None)
        return retain + weight * F.relu(excess).square().mean()

    return objective


def unlearn(
    model: nn.Module, view: View, recipe: Recipe, weight: float, session: Session, level: str = "token"
) -> History:
    """Unlearn D_u in place while retaining D_safe; both towers move, norm statistics stay."""
    return fit(
        model,
        view.pairs.images[view.safe],
        view.tokens[view.safe],
        recipe,
        *session.key,
        objective=forgetting(view, weight, level, *session.key),
        checkpoint=session.checkpoint,
        watch=session.watch,
        label=f"unlearn ({level} level)",
    )
