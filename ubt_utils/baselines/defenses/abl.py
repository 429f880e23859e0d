"""ABL, anti-backdoor learning: train anew on D, isolate what is learned best, climb its loss (Li et al.,
arXiv 2110.11571).

[related]: a first part with local gradient ascent, which turns a loss below γ around; then the pairs of the
lowest loss are isolated, the model is trained on the others, and the isolated ones' loss is climbed at the
end, while that of the others is still learned. [ours]: it starts from f0, as the victim does; the climb is
bounded; and the loss is CLIP's.

That changes what ABL leans on. A classifier's loss is a pair's own affair, and poison's falls to 0 first.
CLIP's is a pair's rank within its batch: k pairs that show and say the same share it and stay at ln k, so
poison that meets itself looks worse than clean pairs that stand alone, the more so the larger the batch and
the more poison there is. And f0 knows most clean pairs already, when poison has all of its loss to lose.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ubt_utils.baselines.detectors.losses import pair_loss, pair_losses
from ubt_utils.baselines.deviations import START
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective, contrastive, gathered
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.ubt.defense import Defense, Session, View, train_on
from ubt_utils.ubt.deviation import VICTIMS, listed

PART = 4  # of a batch: isolated pairs in each step of the climb [ours]
FIRST, CLIMB = 10 / 75, 5 / 75  # of the steps: before isolation, and at the end; the public code's epochs


def turned(loss: torch.Tensor, gamma: float) -> torch.Tensor:
    """() local gradient ascent: the mean of the pairs' losses (B,), each below γ with its sign turned."""
    return (torch.sign(loss - gamma) * loss).mean()


def ascending(gamma: float) -> Objective:
    """CLIP's loss of each pair of the batch, turned around below γ."""

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        z, t, scale = models.embed_pairs(model, images, tokens)
        return turned(pair_losses(*gathered(z, t), scale), gamma)

    return objective


def climbing(
    images: torch.Tensor, tokens: torch.Tensor, weight: float, start: int, *key: object
) -> Objective:
    """L_CLIP of the batch; from step `start` on less weight · min(L_CLIP of isolated pairs, chance).

    images (n, 3, H, W) uint8 and tokens (n, L): the isolated pairs, of which a quarter of a batch is in each
    step. Chance is ln of their number there: the bound is [ours]; without it the climb never ends and
    takes the model along.
    """

    def objective(model: nn.Module, batch: torch.Tensor, captions: torch.Tensor, step: int) -> torch.Tensor:
        loss = contrastive(model, batch, captions, step)
        if step < start:
            return loss
        order = torch.randperm(len(images), generator=generator(*key, "climb", step))
        pick = distributed.mine(order[: max(2, len(batch) // PART) * distributed.count()])
        pictures = models.normalize(model, images[pick].to(batch.device).float() / 255)
        isolated = contrastive(model, pictures, tokens[pick].to(batch.device), step)
        chance = math.log(len(pick) * distributed.count())
        return loss - weight * isolated.clamp(max=chance)

    return objective


def isolated(model: nn.Module, view: View, part: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The indices (n,) of the `part` of D with the lowest loss, lowest first, and of the rest (m,)."""
    z, t = models.embed_images(model, view.pairs.images), models.embed_tokens(model, view.tokens)
    order = pair_loss(z, t, model.logit_scale.exp().item()).sort(stable=True).indices
    order = order[~torch.isin(order, view.held_out)]
    count = max(2, round(part * len(order)))
    return order[:count], order[count:].sort().values


def abl(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    isolate: float = 0.01,
    gamma: float = 0.5,
    weight: float = 1.0,
) -> History:
    """Train the public model on D in place of `model`: isolate the `isolate` part of D that it has learned
    best after the first steps, then train on the rest and climb theirs at the end. Each of the two trainings
    has the recipe's schedule, over its own steps [ours]."""
    model.load_state_dict(view.model("public").state_dict())
    first = max(1, round(FIRST * recipe.steps))
    begun = train_on(
        model, view, view.everything, replace(recipe, steps=first), _part(session, "first"),
        ascending(gamma), "ABL: local gradient ascent",
    )  # fmt: skip
    chosen, rest = isolated(model, view, isolate)
    left = max(1, recipe.steps - first)
    climb = climbing(
        take(view.pairs.images, chosen), view.tokens[chosen], weight, left - round(CLIMB * recipe.steps),
        *session.key,
    )  # fmt: skip
    ended = train_on(
        model, view, rest, replace(recipe, steps=left), _part(session, "second", first), climb,
        "ABL: train on, then climb the isolated pairs' loss",
    )  # fmt: skip
    return joined(begun, ended, first)


def _part(session: Session, name: str, done: int = 0) -> Session:
    """The session of one of the two trainings, `done` steps after the start; a step that the one before has
    been watched at is not watched again."""

    def watch(step: int) -> Any:
        return session.watch(done + step) if session.watch and (step or not done) else None

    path = session.checkpoint
    return Session((*session.key, name), path.with_name(f"{name}-{path.name}") if path else None, watch)


def joined(one: History, other: History, done: int) -> History:
    """One training of `done` steps, then another one."""
    other.curve = [(done + step, answer) for step, answer in other.curve]
    return History(**{name: value + vars(other)[name] for name, value in vars(one).items()})


DEVIATIONS = listed(  # source: bboylyg/ABL, config.py, backdoor_isolation.py and backdoor_unlearning.py
    ("loss", "a classifier's cross-entropy", "CLIP's, of each pair among its batch",
     "D has captions, no labels"),
    ("local gradient ascent", "on a batch's mean loss", "on each pair's loss",
     "a batch's mean hides the poison"),
    ("ascent by default", "flooding", "local gradient ascent", "the method's own"),
    START,
    ("climb", "the isolated pairs alone", "beside the others' loss",
     "CLIP's loss of few pairs wrecks the model"),
    ("bound of the climb", "none", "chance", "else it never ends"),
    ("rate of the climb", "5e-4, after 0.01", "the schedule's end", "one schedule for the second part"),
    ("optimizer", "SGD, momentum 0.9, Nesterov", "AdamW, fresh", VICTIMS),
    ("batch", "64", "256", VICTIMS),
    ("rate", "0.1, then 0.01", "the victim's", VICTIMS),
    ("length", "75 epochs", "the victim's", VICTIMS),
    ("schedule", "in steps", "one cycle", VICTIMS),
    ("weight decay", "1e-4", "0.1, of all weights", VICTIMS),
    ("augmentation", "crops, flips and cutout, after isolation", "color", VICTIMS),
)  # fmt: skip


DEFENSES = (
    Defense(
        "abl", abl, ("D", "f0"), "[related] arXiv 2110.11571; CLIP's loss, from f0, bounded: ours",
        options={"isolate": 0.01, "gamma": 0.5, "weight": 1.0}, cost=1 + CLIMB / PART, looks=1.0,
        anew=True, whole=True, deviations=DEVIATIONS,
    ),
)  # fmt: skip
