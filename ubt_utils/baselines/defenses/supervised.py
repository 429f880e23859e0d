"""Learn classes instead of captions: supervised fine-tuning, and the linear probe.

CleanCLIP (Bansal et al., arXiv 2303.03323) fine-tunes the image tower on labelled clean pictures. Nobody
hands labels to this kit's defender: a pair of D_safe whose caption holds the name of a class counts as
that class [ours].
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.finetune import PEERS
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Defense, Session, View, train_on
from ubt_utils.ubt.deviation import NO_LABELS, ONE_LOOP, ONE_RULE, OTHER_NET, VICTIMS_BATCH, listed


def labelled(view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) indices outside the pool whose caption holds a class's name, and their class (n,).

    Where it holds several, the longest counts. Raises ValueError when no caption does.
    """
    owner = {name: c for c, names in enumerate(view.names) for name in names}
    longest = sorted(owner, key=len, reverse=True)
    pattern = re.compile(r"\b(?:" + "|".join(re.escape(name) for name in longest) + r")\b")
    found = [(i, pattern.findall(view.pairs.captions[i])) for i in view.outside.tolist()]
    kept = [(i, owner[max(names, key=len)]) for i, names in found if names]
    if not kept:
        raise ValueError("no caption of D_safe holds the name of a class: there is nothing to learn from")
    index, label = zip(*kept, strict=True)
    return torch.tensor(index), torch.tensor(label)


def _classify(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
    z = models.unit(model.encode_image(images))
    return F.cross_entropy(model.logit_scale.exp() * z @ F.normalize(model.probe, dim=-1).T, labels)


def _train(model: nn.Module, view: View, recipe: Recipe, session: Session, tower: bool) -> History:
    index, label = labelled(view)
    models.add_probe(model, models.zero_shot_head(model, view.prompts))
    moving = {n for n, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        moves = name == "probe" or (tower and name.startswith("visual."))
        parameter.requires_grad_(name in moving and moves)
    what = "image tower and classes" if tower else "linear probe"
    named = f"{what}, labels from captions"
    return train_on(model, view, index, recipe, session, _classify, named, targets=label)


def supervised(model: nn.Module, view: View, recipe: Recipe, session: Session) -> History:
    """Train the image tower and a linear classifier, which starts as the zero-shot head, in place."""
    return _train(model, view, recipe, session, tower=True)


def linear_probe(model: nn.Module, view: View, recipe: Recipe, session: Session) -> History:
    """Train the classifier alone, on the backdoored tower's embeddings."""
    return _train(model, view, recipe, session, tower=False)


FREE_START = "a good start that asks for no labels"
LABELS = ("labels", "those of the training set", "classes named in captions of D_safe", NO_LABELS)
CLASSIFIER = (
    "classifier", "random, with biases, on raw embeddings", "the zero-shot head, on unit embeddings",
    FREE_START,
)  # fmt: skip
SUPERVISED = listed(  # source: nishadsinghi/CleanCLIP, README.md and src/evaluate.py
    LABELS,
    CLASSIFIER,
    ("batch", "80", "256", VICTIMS_BATCH),
    ("rate", "1e-4", "tuned", OTHER_NET),
    ("length", "10 epochs", "tuned", ONE_RULE),
    ("schedule", "half a cosine, 500 steps of warm-up", "half a cosine, 5 steps of warm-up",
     "few steps in all"),
    ("weight decay", "0.01, not of biases", "0.01, of matrices", "as for the kit's CleanCLIP"),
    ("norm mode", "training", "tuned", ONE_RULE),
)  # fmt: skip
PROBE = listed(  # source: the same
    LABELS,
    CLASSIFIER,
    ("embeddings", "computed once", "anew in each step", ONE_LOOP),
    ("batch", "128", "256", VICTIMS_BATCH),
    ("rate", "0.005", "tuned", OTHER_NET),
    ("length", "10 epochs", "tuned", ONE_RULE),
)  # fmt: skip


SEES = ("D_safe", "class names")
DEFENSES = (
    Defense(
        "supervised", supervised, SEES, "[related] as in CleanCLIP; labels from captions: ours",
        recipe={**PEERS, "weight_decay": 0.01}, cost=4 / 5, deviations=SUPERVISED,
    ),
    Defense(
        "linear_probe", linear_probe, SEES, "[related] the field's usual probe; labels from captions: ours",
        recipe={"schedule": "cosine", "weight_decay": 0.01, "decay": "matrices"}, cost=1 / 3,
        deviations=PROBE,
    ),
)  # fmt: skip
