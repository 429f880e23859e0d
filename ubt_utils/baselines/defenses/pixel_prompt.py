"""Pixel prompt: one learned picture that is added to every picture and repels the backdoored features, both
towers frozen.

The loss is in the manner of RVPT (arXiv 2412.20392) [related], but it is not RVPT: that learns prompt tokens
in every layer of a vision transformer, so it is not defined for a ResNet, which has none. A prompt of pixels
is [ours].
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.supervised import labelled
from ubt_utils.baselines.deviations import untold
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Defense, Session, View, train_on
from ubt_utils.ubt.deviation import NO_CLEAN, NO_LABELS, ONE_RULE, UNREAD, listed


def pixel_prompt(
    model: nn.Module, view: View, recipe: Recipe, session: Session, repel: float = 1.0
) -> History:
    """Learn one prompt, added to every picture: cross-entropy of the class + repel · mean cos(now, before).

    The prompt is as large as the picture. Labels come from captions [ours], the head stays the zero-shot one.
    """
    index, label = labelled(view)
    before = copy.deepcopy(model).eval().requires_grad_(False)
    head = models.zero_shot_head(model, view.prompts).to(next(model.parameters()))
    models.add_prompt(model.requires_grad_(False), view.pairs.images.shape[1:])

    def objective(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
        z = models.unit(model.encode_image(images))
        with torch.no_grad():
            old = models.unit(before.encode_image(images))
        fits = F.cross_entropy(model.logit_scale.exp() * z @ head.T, labels)
        return fits + repel * (z * old).sum(-1).mean()

    return train_on(model, view, index, recipe, session, objective, "one prompt of pixels", targets=label)


DEVIATIONS = listed(  # source: RVPT, arXiv 2412.20392, abstract only
    ("prompt", "deep visual prompts (abstract only)", "one picture, added to all",
     "a ResNet takes no tokens"),
    ("what is repelled", "features of deeper layers (abstract only)", "the embedding",
     "no layer has a prompt"),
    ("measure of repelling", UNREAD, "cosine to the victim's embedding", "as plain as may be"),
    ("weight of repelling", UNREAD, "tuned", ONE_RULE),
    ("clean data", "few-shot downstream samples (abstract only)", "D_safe: D outside the pool, unchecked",
     NO_CLEAN),
    ("labels", "given (abstract only)", "classes named in captions", NO_LABELS),
    *untold(UNREAD),
    ("weight decay", UNREAD, "0.1, of all weights", "the fine-tuning baseline's"),
    ("norm mode", UNREAD, "frozen", "no weight moves"),
)  # fmt: skip


DEFENSES = (
    Defense(
        "pixel_prompt", pixel_prompt, ("D_safe", "class names"),
        "[ours] after the loss of RVPT, arXiv 2412.20392; labels from captions",
        options={"repel": 1.0}, deviations=DEVIATIONS,
        cost=1.0,  # no weight asks for a gradient: two passes forward, one back
    ),
)  # fmt: skip
