"""TBAR: subtract from the weights what training on triggered pairs adds (arXiv 2510.14845).

Its text beyond the abstract could not be read, and no code was found: the task vector, its subtraction and
the use of an inverted trigger where the attack is unknown are the abstract's, all else is [ours]. The trigger
is InverTune's (see `inversion`).
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.baselines.defenses.negation import direction, renew_norms
from ubt_utils.baselines.deviations import untold
from ubt_utils.baselines.inversion import LOOKS, Trigger, inverted
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import NO_CLEAN, ONE_RULE, UNREAD, listed


def poisoning(trigger: Trigger, head: torch.Tensor) -> Objective:
    """Cross-entropy of stamped pictures for the target, among the captions of all classes, whose (C, D) unit
    embeddings stay.

    Only the image tower learns, as in Ilharco et al. (arXiv 2212.04089). Within a batch that all has one
    caption, CLIP's own loss would have nothing to contrast [ours].
    """

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        stamped = models.normalize(model, trigger(models.pixels(model, images)))
        z = models.unit(model.encode_image(stamped))
        return F.cross_entropy(model.logit_scale.exp().detach() * z @ head.T, trigger.target.expand(len(z)))

    return objective


def tbar(model: nn.Module, view: View, recipe: Recipe, session: Session, scale: float = 1.0) -> History:
    """θ ← θ − scale · (θ trained on stamped pairs of D_safe − θ), in place; trained without weight decay, so
    that the difference holds what was learned and nothing else [ours]."""
    trigger = inverted(model, view, session)
    head = models.zero_shot_head(model, view.prompts).to(trigger.mask)
    taught, unseen = copy.deepcopy(model), Session(session.key, session.checkpoint)
    history = train_outside(taught, view, recipe, unseen, poisoning(trigger, head), "TBAR: learn the trigger")
    history.note(0, session.watch)
    found = direction(model, [taught])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.sub_(scale * found[name])
    renew_norms(model, view)
    history.note(recipe.steps, session.watch)
    return history


DEVIATIONS = listed(  # source: arXiv 2510.14845, abstract only
    ("trigger", "known, or reverse-engineered (abstract only)", "InverTune's",
     "one inversion for all rivals"),
    ("what is learned", UNREAD, "cross-entropy for the target's captions",
     "one caption contrasts with nothing"),
    ("weights that learn", UNREAD, "the image tower's", "as in task arithmetic"),
    ("scale of the subtraction", UNREAD, "tuned", ONE_RULE),
    ("clean data", UNREAD, "D_safe: D outside the pool, unchecked", NO_CLEAN),
    *untold(UNREAD),
    ("weight decay", UNREAD, "none", "the difference holds what was learned alone"),
    ("norm mode", UNREAD, "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "tbar", tbar, ("D_safe", "class names"),
        "[related] arXiv 2510.14845, its abstract; trigger as in InverTune, loss: ours",
        options={"scale": 1.0}, recipe={"weight_decay": 0.0}, cost=4 / 5, looks=LOOKS,
        deviations=DEVIATIONS,
    ),
)  # fmt: skip
