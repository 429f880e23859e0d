"""UBT's token-level unlearning (METHOD step 5), and the variants that its choices are measured by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils import device, models, ranks
from ubt_utils import tokens as tk
from ubt_utils.defenses.attribution import compromised
from ubt_utils.defenses.base import Defense, Session, View
from ubt_utils.defenses.finetune import train_on
from ubt_utils.objectives import Objective, contrastive
from ubt_utils.profiles.base import Select
from ubt_utils.seeding import generator
from ubt_utils.selection import COMMON, alike, carriers_outside, rounds, tokens_of
from ubt_utils.training import History, Recipe

LEVELS = ("token", "sample")
OUTLIER = Select.outlier  # for D_u of other detectors


def excess(
    model: nn.Module,
    images: torch.Tensor,
    whole: torch.Tensor,
    others: torch.Tensor | None,
    both: bool = False,
) -> torch.Tensor:
    """(B,) cos(image, whole caption), less the mean cos(image, other caption) where others are given.

    images: (B, 3, H, W) normalized. whole: (B, L) captions; others: (J, B, L) what else each could
    have been told. The gradient flows into the image tower only, unless `both`: the false rule is that
    a detail of a picture says a word, and what the word means is not to be forgotten.
    """
    held = whole[None] if others is None else torch.cat([whole[None], others])
    unique, back = held.flatten(0, 1).unique(dim=0, return_inverse=True)
    with torch.set_grad_enabled(both and torch.is_grad_enabled()):
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


@dataclass(frozen=True)
class Forget:
    """What is forgotten and how. weight: w of the forgetting term. level: token or sample. words: how many
    other words of D_safe stand in for B, drawn anew in each step; 0: B is left out. both: push both
    towers, not the image tower alone. retain: keep L_CLIP on D_safe.
    """

    weight: float = 1.0
    level: str = "token"
    words: int = 4
    both: bool = False
    retain: bool = True

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"unknown unlearning level {self.level!r}; known: {', '.join(LEVELS)}")


def forgetting(view: View, how: Forget, *key: object) -> Objective:
    """L_CLIP on the batch of D_safe + weight · mean over D_u of relu(excess)²; see `rivals`."""
    where = device.pick()
    pictures = (view.pairs.images[view.suspicious].float() / 255).to(where)
    told, known = view.tokens[view.suspicious], tk.vocabulary(view.tokens[view.safe], COMMON)

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        retain = contrastive(model, batch, tokens, step) if how.retain else 0.0
        draw = generator(*key, "forget", step)
        pick = torch.randperm(len(told), generator=draw)[: len(batch) * ranks.count()]
        drawn = known[torch.randint(len(known), (how.words,), generator=draw)]
        others = rivals(told[pick], view.compromised, how.level, drawn)
        images = models.normalize(model, pictures[pick.to(where)])
        others = None if others is None else others.to(where)
        over = excess(model, images, told[pick].to(where), others, how.both)
        return retain + how.weight * F.relu(over).square().mean()

    return objective


def unlearn(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    second_look: bool = True,
    by: str = "surprise",
    detector: str = "ubt",
    again: bool = False,
    **how: Any,
) -> History:
    """Unlearn D_u in place while retaining D_safe; norm statistics stay.

    Both towers move: the image tower to retain and to forget, the text tower to retain. second_look:
    leave pairs outside the pool that look like D_u out of D_safe. by: how B was found, see
    `attribution.compromised`. detector: whose best scores are D_u. again: vote in several rounds, see
    `selection.rounds`. how: the fields of `Forget`.
    """
    if again:
        view = voted_again(view)
    if detector != "ubt":
        view = fed_by(view, detector)
    if by != "surprise":
        view = replace(view, compromised=compromised(view, by))
    kept = view.safe if second_look else view.outside
    objective = forgetting(view, Forget(**how), *session.key)
    label = f"unlearn ({how.get('level', 'token')} level)"
    return train_on(model, view, kept, recipe, session, objective, label)


def fed_by(view: View, detector: str) -> View:
    """The view with as many pairs in D_u as before, but those that a detector suspects most; B is what they
    tell more often than D, and there is no second look."""
    chosen = view.score(detector).sort(descending=True, stable=True).indices[: len(view.suspicious)]
    found = tokens_of(view.tokens, chosen, OUTLIER)
    return replace(view, suspicious=chosen, compromised=found, left_out=chosen)


def voted_again(view: View) -> View:
    """The view with all words in D_u and B that several votes name, and a second look for each."""
    overfit, gain = view.score("overfit"), view.score("gain")
    found = rounds(view.tokens, overfit, view.pool, len(view.suspicious), OUTLIER)
    left_out = []
    for one in found:
        outside = carriers_outside(view.tokens, view.pool, one.compromised)
        left_out.append(outside[alike(gain[one.chosen], gain[outside])])
    return replace(
        view,
        suspicious=torch.cat([one.chosen for one in found]),
        compromised=torch.cat([one.compromised for one in found]).unique(),
        left_out=torch.cat(left_out).unique(),
    )


FED = ("clipscore", "similarity", "gain", "overfit", "abl_loss", "k_distance", "dao", "slof", "lid", "random")
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ubt-sample": ("push whole captions", {"level": "sample"}),
    "ubt-cut": ("against the caption without B, not with other words in its place", {"words": 0}),
    "ubt-both": ("push the text tower, too", {"both": True}),
    "ubt-noretain": ("no retain term", {"retain": False}),
    "ubt-onelook": ("no second look outside the pool", {"second_look": False}),
    "ubt-occlusion": ("B by occlusion, not by frequency", {"by": "occlusion"}),
    "ubt-gradient": ("B by gradient × embedding, not by frequency", {"by": "gradient"}),
    "ubt-rounds": ("several votes, for several words", {"again": True}),
    **{f"ubt-from-{name}": (f"D_u by {name}", {"detector": name}) for name in (*FED, "isolation_forest")},
}
SEES = ("D", "f0", "overfit", "detection")
DEFENSES = (
    Defense("ubt", unlearn, SEES, "[paper] arXiv 2409.19526 and 2403.16257; in detail ours, see METHOD"),
    *(
        Defense(name, unlearn, SEES, f"[ours] UBT, but {told}", options=how)
        for name, (told, how) in VARIANTS.items()
    ),
)
