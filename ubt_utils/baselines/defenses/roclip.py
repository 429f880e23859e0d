"""RoCLIP: in some passes, the nearest caption of a random pool in place of the own one (Yang et al., 2023).

[paper] arXiv 2303.06854: every few epochs a picture is matched with the caption of a large pool of random
ones that is most similar to it, so that a stamped picture learns what it shows; pictures and captions are
augmented. [related] BigML-CS-UCLA/RoCLIP: every second epoch (`break_epoch` 2); a pool of 21,845 captions of
the batches before, 2 % of its million pairs; no gradient flows into the pool; 24 epochs, batch 512, lr 5e-5,
decay 0.1. [ours] the steps, rate and schedule are the victim's, and so is the start, f0 where there is one;
plain passes fill the pool, too; augmentation is this kit's, of pose and color, without flips, grey and blur;
the caption's is EDA without a thesaurus, drawn anew in each step, where the public code draws it once.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import nn

from ubt_utils.baselines import queue
from ubt_utils.baselines.defenses.cleanclip import eda
from ubt_utils.baselines.deviations import CAPTIONS, PICTURES, SCHEDULE, START
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective, clip_loss, gathered
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.ubt.defense import Defense, Session, View, train_on
from ubt_utils.ubt.deviation import VICTIMS, listed


def matches(step: int, per_pass: int, every: int) -> bool:
    """Whether this step, of passes of `per_pass` steps, trains on the pool's captions: in each `every`-th
    pass, the first not."""
    return (step // per_pass + 1) % every == 0


def matching(per_pass: int, every: int, *key: object) -> Objective:
    """CLIP's loss of pictures and their changed captions or, in each `every`-th pass, the pool's nearest ones
    to the pictures; the captions go into the model's `pool` afterwards."""

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        draw = random.Random(repr((*key, "captions", step, *distributed.own())))
        z, t, scale = models.embed_pairs(model, images, eda(tokens.cpu(), draw).to(tokens.device))
        partner = queue.nearest(model.pool, z) if matches(step, per_pass, every) else t
        queue.push(model.pool, gathered(t, t)[0])
        return clip_loss(z, partner, scale)

    return objective


def roclip(
    model: nn.Module, view: View, recipe: Recipe, session: Session, pool: float = 0.02, every: int = 2
) -> History:
    """Train the public model on all of D, in place of `model`, as long as the victim did. pool: its size, as
    a part of D; every: which passes use it. ValueError where neither is possible."""
    if not 0 < pool <= 1 or every < 1:
        raise ValueError(f"RoCLIP needs a pool in (0, 1] and every ≥ 1, got {pool} and {every}")
    index = view.everything
    model.load_state_dict(view.model("public").state_dict())
    per_pass = len(index) // min(recipe.batch, len(index))
    start = queue.empty(max(1, round(pool * len(index))), queue.width_of(model))
    with queue.held(model, pool=start):
        objective = matching(per_pass, every, *session.key)
        changed = replace(recipe, augment="full")
        return train_on(model, view, index, changed, session, objective, "RoCLIP on D")


DEVIATIONS = listed(  # source: BigML-CS-UCLA/RoCLIP, src/parser.py, src/train.py and utils/
    START,
    ("batch", "512", "256", VICTIMS),
    ("rate", "5e-5", "the victim's", VICTIMS),
    ("length", "24 epochs", "the victim's", VICTIMS),
    SCHEDULE,
    PICTURES,
    CAPTIONS,
    ("pool", "21,845 captions", "2 % of D", "D is smaller"),
    ("what fills the pool", "matched passes", "all passes", "else the first match is among noise"),
    ("pool at first", "random vectors", "empty", "noise would pull somewhere"),
)  # fmt: skip


DEFENSES = (
    Defense(
        "roclip", roclip, ("D", "f0"), "[related] arXiv 2303.06854; the victim's recipe and start: ours",
        options={"pool": 0.02, "every": 2}, recipe={"decay": "matrices"}, anew=True, whole=True,
        deviations=DEVIATIONS,
    ),
)  # fmt: skip
