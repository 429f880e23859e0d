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


def retained(view: View, rehearse: int) -> torch.Tensor:
    """(n,) indices of D_safe, the pairs that carry a compromised token `rehearse` times each.

    [ours] Outside the pool these tokens mean what they say. Rehearsing the honest pairs
    that carry them keeps the target class alive while its false rule is unlearned.
    """
    if rehearse < 1:
        raise ValueError(f"rehearse counts how often a pair is seen, at least 1, got {rehearse}")
    safe = view.safe
    carriers = safe[torch.isin(view.tokens[safe], view.compromised).any(dim=1)]
    return torch.cat([safe, carriers.repeat(rehearse - 1)])


def unlearn(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    weight: float = 1.0,
    level: str = "token",
    rehearse: int = 1,
) -> History:
    """Unlearn D_u in place while retaining D_safe; both towers move, norm statistics stay."""
    kept = retained(view, rehearse)
    return fit(
        model,
        view.pairs.images[kept],
        view.tokens[kept],
        recipe,
        *session.key,
        objective=forgetting(view, weight, level, *session.key),
        checkpoint=session.checkpoint,
        watch=session.watch,
        label=f"unlearn ({level} level)",
    )
