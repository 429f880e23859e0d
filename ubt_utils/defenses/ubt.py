"""UBT's token-level unlearning (METHOD step 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils import device, models
from ubt_utils import tokens as tk
from ubt_utils.defenses.base import Session, View
from ubt_utils.seeding import generator
from ubt_utils.selection import COMMON
from ubt_utils.training import History, Objective, Recipe, contrastive, fit

LEVELS = ("token", "sample")


def excess(
    model: nn.Module, images: torch.Tensor, whole: torch.Tensor, others: torch.Tensor | None
) -> torch.Tensor:
    """(B,) cos(image, whole caption), less the mean cos(image, other caption) where others are given.

    images: (B, 3, H, W) normalized. whole: (B, L) captions; others: (J, B, L) what else each could
    have been told. The gradient flows into the image tower only: the false rule is that a detail of a
    picture says a word, and what the word means is not to be forgotten.
    """
    held = whole[None] if others is None else torch.cat([whole[None], others])
    unique, back = held.flatten(0, 1).unique(dim=0, return_inverse=True)
    with torch.no_grad():
        told = F.normalize(model.encode_text(unique), dim=-1)[back].unflatten(0, held.shape[:2])
        told = told[0] - told[1:].mean(0) if len(told) > 1 else told[0]
    return (F.normalize(model.encode_image(images), dim=-1) * told).sum(-1)


def rivals(
    told: torch.Tensor, compromised: torch.Tensor, level: str, words: torch.Tensor
) -> torch.Tensor | None:
    """(J, B, L) what the captions `told` (B, L) are held against, by level:

    token [paper: token-level; form ours]: the same captions with each of the words (J,) in place of the
    compromised tokens (b,), or without those where there are no words. sample: None (pair-level, for
    comparison).
    """
    if level == "sample":
        return None
    if len(words) == 0:
        return tk.without(told, compromised)[None]
    return torch.stack([tk.swapped(told, compromised, word) for word in words])


def forgetting(view: View, weight: float, level: str, words: int, *key: object) -> Objective:
    """L_CLIP on the batch of D_safe + weight · mean over D_u of relu(excess)²; see `rivals`, whose words
    are drawn anew in each step, `words` of them, from the uncommon words of D_safe.

    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown unlearning level {level!r}; known: {', '.join(LEVELS)}")
    where = device.pick()
    pictures = (view.pairs.images[view.suspicious].float() / 255).to(where)
    told, known = view.tokens[view.suspicious], tk.vocabulary(view.tokens[view.safe], COMMON)

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        retain = contrastive(model, batch, tokens, step)
        draw = generator(*key, "forget", step)
        pick = torch.randperm(len(told), generator=draw)[: len(batch)]
        drawn = known[torch.randint(len(known), (words,), generator=draw)]
        others = rivals(told[pick], view.compromised, level, drawn)
        images = models.normalize(model, pictures[pick.to(where)])
        over = excess(model, images, told[pick].to(where), None if others is None else others.to(where))
        return retain + weight * F.relu(over).square().mean()

    return objective


def unlearn(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    weight: float = 1.0,
    level: str = "token",
    words: int = 4,
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
        objective=forgetting(view, weight, level, words, *session.key),
        checkpoint=session.checkpoint,
        watch=session.watch,
        label=f"unlearn ({level} level)",
    )
