"""What the sources say of UBT, and nothing else: `ubt-described`.

1. [paper] Pairs of weak similarity come first; [summary] D is split into D_susp and D_safe by it. That f0
   scores, and how large D_susp is, the sources do not say: [ours], as everywhere.
2. [summary] Overfit training raises the similarity of D_susp, blended with the contrastive loss on a normal
   set; [lab] as mean (cos − 1)² with the weight 1.
3. [summary] The pairs of D_susp that the overfit model finds most similar are the unlearning set.
4. [paper] Unlearning concerns a token-based portion of their captions; which, they do not say: a random half.
5. [lab] mean cos² of picture and what is left of the caption, plus the contrastive loss on D_safe, weight 1.

Where they are silent the simplest choice stands. No halves, no vote, no second look, no other words.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import torch
from torch import nn

from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective, contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.scoring import similarity
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.kernels.occlusion import inner
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.defense import Defense, Session, View, train_on

TOGETHER, APART = 1.0, 0.0  # the cosine that D_susp is drawn to while overfitting, and D_u while unlearning
PORTION = 0.5  # of a caption's tokens


def described(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    pool: float = 0.25,
    overfit: int = 40,
    top: int = 64,
) -> History:
    """The five steps above, in place. pool: the part of D that is D_susp. overfit: steps of overfit training,
    at the recipe's rate. top: pairs in the unlearning set."""
    start = time.perf_counter()
    public = similarity(view.model("public"), view.pairs.images, view.tokens)
    order = public.sort(stable=True).indices
    order = order[~torch.isin(order, view.held_out)]
    count = round(pool * len(order))
    suspicious, safe = order[:count], order[count:].sort().values
    fo, longer = copy.deepcopy(model), replace(recipe, steps=overfit, schedule="constant")
    blend = beside(view, suspicious, TOGETHER, None, *session.key, "overfit")
    trained = train_on(fo, view, safe, longer, Session((*session.key, "overfit")), blend, "overfit on D_susp")
    seen = similarity(fo, take(view.pairs.images, suspicious), view.tokens[suspicious])
    chosen = suspicious[seen.sort(descending=True, stable=True).indices[:top]]
    forget = beside(view, chosen, APART, PORTION, *session.key, "forget")
    looked = time.perf_counter() - start
    history = train_on(model, view, safe, recipe, session, forget, "unlearn a portion of the tokens")
    history.seconds += looked
    history.pairs_seen += trained.pairs_seen
    return history


def beside(
    view: View, index: torch.Tensor, goal: float, portion: float | None, *key: object
) -> Objective:  # fmt: skip
    """L_CLIP of the batch + mean (cos − goal)² over as many of the pairs `index` (n,) as D_safe gives to the
    batch. portion: of each caption's tokens that are kept, drawn anew in each step; None: all."""

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        draw = generator(*key, step)
        pick = torch.randperm(len(index), generator=draw)[: len(batch) * distributed.count()]
        pick = index[distributed.mine(pick)]
        pictures = view.pairs.images[pick].to(batch.device).float() / 255
        captions = view.tokens[pick]
        captions = captions if portion is None else part_of(captions, portion, draw)
        z, t, _ = models.embed_pairs(model, models.normalize(model, pictures), captions.to(batch.device))
        return contrastive(model, batch, tokens, step) + (torch.linalg.vecdot(z, t) - goal).square().mean()

    return objective


def part_of(captions: torch.Tensor, portion: float, draw: torch.Generator) -> torch.Tensor:
    """Captions (B, L) with a random `portion` of their inner tokens, at least one each, in their order."""
    said = inner(captions)
    luck = torch.rand(captions.shape, generator=draw).masked_fill(~said, 2.0)
    rank = luck.argsort(1).argsort(1)
    kept = rank < (portion * said.sum(1, keepdim=True)).round().clamp(min=1)
    return tk.kept(captions, kept | ~said)


DEFENSES = (
    Defense(
        "ubt-described", described, ("D", "f0"),
        "[paper], [summary] and [lab] alone; where they are silent, the simplest choice",
        options={"pool": 0.25, "overfit": 40, "top": 64}, cost=1.25,
    ),
)  # fmt: skip
