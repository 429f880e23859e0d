"""Task-vector negation: subtract what overfitting on the pool adds (Ilharco et al., arXiv 2212.04089)."""

from __future__ import annotations

import time

import torch
from torch import nn

from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import device
from ubt_utils.ubt.defense import OVERFIT, Defense, Session, View
from ubt_utils.ubt.deviation import ONE_RULE, listed

NORMED, BATCH = 2048, 256  # pictures that norms are read on


def direction(model: nn.Module, others: list[nn.Module]) -> dict[str, torch.Tensor]:
    """Per parameter, the mean of the others less the model: where overfitting on the pool leads."""
    theirs = [dict(other.named_parameters()) for other in others]
    return {
        name: torch.stack([one[name].detach() for one in theirs]).mean(0).to(weight) - weight.detach()
        for name, weight in model.named_parameters()
    }


@torch.no_grad()
def renew_norms(model: nn.Module, view: View) -> None:
    """Read batch norms' statistics anew, on NORMED pictures of D_safe: those of before belong to other
    weights. Nothing for a model without such norms."""
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    model.train()
    for part in view.outside[:NORMED].split(BATCH):
        pictures = view.pairs.images[part].to(device.pick()).float() / 255
        model.encode_image(models.normalize(model, pictures))
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
    model.eval()


def negate(model: nn.Module, view: View, recipe: Recipe, session: Session, scale: float = 1.0) -> History:
    """θ ← θ − scale · (θ overfit − θ), in place; nothing is trained.

    That the overfit models show where the backdoor lies is [ours]: they are UBT's own.
    """
    history, start = History(), time.perf_counter()
    found = direction(model, [view.model(name) for name in OVERFIT])
    history.seconds += time.perf_counter() - start
    history.note(0, session.watch)
    start = time.perf_counter()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.sub_(scale * found[name])
    renew_norms(model, view)
    history.seconds += time.perf_counter() - start
    history.note(0, session.watch)  # no step was taken
    return history


DEVIATIONS = listed(  # source: mlfoundations/task_vectors, README.md and src/finetune.py
    ("task to forget", "a labelled data set", "the pool", "poison is denser there"),
    ("task vector", "of one fine-tuned model", "mean over UBT's overfit models", "they are there already"),
    ("its training", "AdamW, batch 128, rate 1e-5, 4 to 76 epochs", "UBT's overfitting",
     "they are there already"),
    ("loss", "cross-entropy to a zero-shot head", "CLIP's", "pairs have captions, no labels"),
    ("model to edit", "the pretrained one", "the victim", "it has the backdoor"),
    ("weights", "the image tower's", "all", "both towers were overfitted"),
    ("scale", "0.5 in its example", "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "negation", negate, ("D", "f0", "overfit"), "[related] arXiv 2212.04089; the direction: ours",
        options={"scale": 1.0}, deviations=DEVIATIONS,
    ),
)  # fmt: skip
