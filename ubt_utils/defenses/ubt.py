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
    compromised tokens. The gradient flows into the image tower only: the false rule is
    that a detail of a picture says a word, and what the word means is not to be forgotten.
    """
    with torch.no_grad():
        told = F.normalize(model.encode_text(whole), dim=-1)
        if cut is not None:
            told = told - F.normalize(model.encode_text(cut), dim=-1)
    return (F.normalize(model.encode_image(images), dim=-1) * told).sum(-1)


def forgetting(view: View, weight: float, level: str, *key: object) -> Objective:
    """L_CLIP on the batch of D_safe + weight · mean over D_u of relu(·)², by level:

    token [paper: token-level; form ours]: of what the compromised tokens add to the
    similarity. sample: of the similarity of the whole caption (pair-level, for comparison).
    """
    if level not in ("token", "sample"):
        raise ValueError(f"unknown unlearning level {level!r}; known: token, sample")
    where = device.pick()
    pictures = (view.pairs.images[view.suspicious].float() / 255).to(where)
    told = view.tokens[view.suspicious]
    whole, cut = told.to(where), tk.without(told, view.compromised).to(where)

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        retain = contrastive(model, batch, tokens, step)
        pick = torch.randperm(len(whole), generator=generator(*key, "forget", step))[: len(batch)].to(where)
        images = models.normalize(model, pictures[pick])
        excess = similarity_of(model, images, whole[pick], cut[pick] if level == "token" else None)
        return retain + weight * F.relu(excess).square().mean()

    return objective


def unlearn(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    weight: float = 1.0,
    level: str = "token",
) -> History:
    """Unlearn D_u in place while retaining D_safe; norm statistics stay.

    Both towers move: the image tower to retain and to forget, the text tower to retain.
    """
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
