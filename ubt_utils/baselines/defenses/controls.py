"""Controls: what it costs, and what it brings, to do something simpler."""

from __future__ import annotations

import torch
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_from_public
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Defense, Session, View, train_on


def carry_on(model: nn.Module, view: View, recipe: Recipe, session: Session) -> History:
    """Go on training on all of D, poison included: what further training does by itself."""
    return train_on(model, view, view.everything, recipe, session, label="go on training on D")


def merge(model: nn.Module, view: View, recipe: Recipe, session: Session, share: float = 0.5) -> History:
    """θ ← (1 − share) · θ of f0 + share · θ, in place: nothing is trained. Wortsman et al., arXiv
    2109.01903."""
    public = view.model("public").state_dict()
    mixed = {
        name: torch.lerp(public[name].to(weight), weight, share) if weight.is_floating_point() else weight
        for name, weight in model.state_dict().items()
    }
    model.load_state_dict(mixed)
    return History()


def retrain_listed(
    model: nn.Module, view: View, recipe: Recipe, session: Session, detector: str = "ubt", count: int = 256
) -> History:
    """Leave out what a detector lists and train the public model anew on the rest of D. detector: "ubt"
    leaves out the pairs that suffer like poison; another one its `count` highest scores [ours]."""
    poisonous = view.poisonous
    if detector != "ubt":
        poisonous = torch.zeros_like(view.pool)
        poisonous[view.score(detector).sort(descending=True, stable=True).indices[:count]] = True
    kept = view.everything[~poisonous[view.everything]]
    return train_from_public(model, view, kept, recipe, session, f"retrain without what {detector} lists")


LISTS = ("gain", "dao")
DEFENSES = (
    Defense("carry_on", carry_on, ("D",), "[ours] a control"),
    Defense(
        "merge", merge, ("f0",), "[related] arXiv 2109.01903", options={"share": 0.5}, anew=True
    ),
    Defense(
        "retrain_ubt", retrain_listed, ("D", "f0", "detection"), "[ours] UBT's list, left out", anew=True,
        whole=True,
    ),
    *(
        Defense(
            f"retrain_{name}", retrain_listed, ("D", "f0", "overfit", "detection"),
            f"[related] the list of {name}, left out", options={"detector": name}, anew=True, whole=True,
        )
        for name in LISTS
    ),
)  # fmt: skip
