"""Plain fine-tuning, the field's first baseline, and the same from the public model instead."""

from __future__ import annotations

import torch
from torch import nn

from ubt_utils.baselines.deviations import SCHEDULE, START
from ubt_utils.clip.objectives import Objective, contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Defense, Session, View, train_on
from ubt_utils.ubt.deviation import NO_CLEAN, ONE_RULE, OTHER_NET, VICTIMS, VICTIMS_BATCH, listed

# AdamW as CleanCLIP's authors fine-tune: half a cosine, no decay of norms and biases, norms in training mode
# (nishadsinghi/CleanCLIP, src/main.py). Their 50 steps of warm-up are few of 15,625, and so are these.
PEERS = {"schedule": "cosine", "warmup": 5, "decay": "matrices", "freeze_norm": False}


def train_outside(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    objective: Objective = contrastive,
    label: str = "fine-tune on D_safe",
) -> History:
    """Train in place on all pairs outside the pool, with a loss of a defense's own."""
    return train_on(model, view, view.outside, recipe, session, objective, label)


def finetune(model: nn.Module, view: View, recipe: Recipe, session: Session) -> History:
    """Fine-tune in place on D_safe: UBT without detection and forgetting, at the same cost."""
    return train_outside(model, view, recipe, session)


def retrain(model: nn.Module, view: View, recipe: Recipe, session: Session) -> History:
    """Throw the backdoored model away: fine-tune the public one on D_safe, in place of `model`.

    SafeCLIP (Yang et al., arXiv 2310.05862) trains on the pairs that a model finds most similar; here on
    those outside UBT's pool, and the risky rest is left aside instead of trained one modality at a time.
    """
    return train_from_public(model, view, view.outside, recipe, session, "retrain f0 on D_safe")


def train_from_public(
    model: nn.Module, view: View, index: torch.Tensor, recipe: Recipe, session: Session, label: str
) -> History:
    """Train the public model, in place of `model`, on the pairs `index` (n,) of D."""
    model.load_state_dict(view.model("public").state_dict())
    return train_on(model, view, index, recipe, session, label=label)


FINE_TUNED = listed(  # source: nishadsinghi/CleanCLIP, README.md and src/main.py
    ("clean data", "100,000 clean pairs", "D_safe: D outside the pool, unchecked", NO_CLEAN),
    ("batch", "64", "256", VICTIMS_BATCH),
    ("rate", "1e-5", "tuned", OTHER_NET),
    ("length", "10 epochs", "tuned", ONE_RULE),
    ("schedule", "half a cosine, 50 steps of warm-up", "half a cosine, 5 steps of warm-up",
     "few steps in all"),
    ("norm mode", "training", "tuned", ONE_RULE),
    ("optimizer", "AdamW, with the victim's moments", "AdamW, fresh", "a defender holds the weights alone"),
)  # fmt: skip
RETRAINED = listed(  # source: BigML-CS-UCLA/SafeCLIP, src/main.py and src/parser.py
    ("safe pairs", "a mixture of two Gaussians, anew each epoch", "D_safe: D outside the pool",
     "one filter for all"),
    ("risky pairs", "trained one modality at a time", "left out", "what filtering does by itself"),
    START,
    ("batch", "128", "256", VICTIMS),
    ("rate", "5e-4", "tuned", OTHER_NET),
    ("length", "32 epochs", "tuned", ONE_RULE),
    SCHEDULE,
    ("weight decay", "0.1, not of norms and biases", "0.1, of all weights", VICTIMS),
    ("augmentation", "flips, crops, jitter, grey, blur", "color", VICTIMS),
)  # fmt: skip


DEFENSES = (
    Defense(
        "finetune", finetune, ("D_safe",), "[related] every study's first baseline", recipe=PEERS,
        deviations=FINE_TUNED,
    ),
    Defense(
        "retrain", retrain, ("D_safe", "f0"), "[related] filtering as in SafeCLIP; with f0: ours", anew=True,
        whole=True, deviations=RETRAINED,
    ),
)  # fmt: skip
