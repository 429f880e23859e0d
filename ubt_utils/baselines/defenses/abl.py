"""ABL: isolate the pairs learned best, then climb their loss (Li et al., arXiv 2110.11571)."""

from __future__ import annotations

import math

import torch
from torch import nn

from ubt_utils.baselines.detectors.losses import pair_loss
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective, contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.ubt.defense import Defense, Session, View, train_on

PART = 4  # of a batch: isolated pairs in each step


def climbing(images: torch.Tensor, tokens: torch.Tensor, weight: float, *key: object) -> Objective:
    """L_CLIP of the batch − weight · min(L_CLIP of isolated pairs, chance).

    images (n, 3, H, W) uint8 and tokens (n, L): the isolated pairs, of which a quarter of a batch is in each
    step. Chance is ln of their number there: the bound is [ours]; without it the climb never ends and
    takes the model along.
    """

    def objective(model: nn.Module, batch: torch.Tensor, captions: torch.Tensor, step: int) -> torch.Tensor:
        order = torch.randperm(len(images), generator=generator(*key, "climb", step))
        pick = distributed.mine(order[: max(2, len(batch) // PART) * distributed.count()])
        pictures = models.normalize(model, images[pick].to(batch.device).float() / 255)
        isolated = contrastive(model, pictures, tokens[pick].to(batch.device), step)
        chance = math.log(len(pick) * distributed.count())
        return contrastive(model, batch, captions, step) - weight * isolated.clamp(max=chance)

    return objective


def abl(
    model: nn.Module, view: View, recipe: Recipe, session: Session, isolate: float = 0.01, weight: float = 1.0
) -> History:
    """Isolate the `isolate` part of D with the lowest loss; train on the rest while climbing theirs.

    Pair level: whole captions are pushed away. ABL isolates while the victim trains; here the victim
    is done, so the loss is read under the backdoored model [ours].
    """
    z, t = models.embed_images(model, view.pairs.images), models.embed_tokens(model, view.tokens)
    order = pair_loss(z, t, model.logit_scale.exp().item()).sort(stable=True).indices
    order = order[~torch.isin(order, view.held_out)]
    count = max(2, round(isolate * len(order)))
    chosen, rest = order[:count], order[count:].sort().values
    objective = climbing(view.pairs.images[chosen], view.tokens[chosen], weight, *session.key)
    label = "ABL: climb the isolated pairs' loss"
    return train_on(model, view, rest, recipe, session, objective, label)


DEFENSES = (
    Defense(
        "abl", abl, ("D",), "[related] arXiv 2110.11571; after the victim's training, bounded: ours",
        options={"isolate": 0.01, "weight": 1.0}, cost=1 + 1 / PART, looks=1.0,
    ),
)  # fmt: skip
