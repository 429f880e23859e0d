"""InverTune: invert the trigger, then make what it moves behave as without it (arXiv 2506.12411, NDSS 26).

Layers, clusters, losses, weights and weight decay are those of its code (Goodman-liyu/InverTune).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import nn

from ubt_utils.baselines import inversion
from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.baselines.inversion import BATCH, LOOKS, Trigger, inverted
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import device
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import ONE_LOOP, ONE_RULE, OTHER_NET, VICTIMS_BATCH, listed

LAYERS = 3  # the layers that are tuned


def candidates(model: nn.Module) -> list[nn.Module]:
    """The image tower's stages: the four of a ResNet, as in the source; a timm tower's stages and a ViT's
    blocks in their place [ours]. ValueError for another kind of tower."""
    visual = model.visual
    if hasattr(visual, "layer1"):
        return [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
    for holder, name in ((getattr(visual, "trunk", None), "blocks"), (visual, "transformer")):
        if hasattr(holder, name):
            stages = getattr(holder, name)
            return list(getattr(stages, "resblocks", stages))
    raise ValueError("InverTune needs an image tower in stages: a ResNet, a ViT or a timm tower with blocks")


def activations(
    model: nn.Module, images: torch.Tensor, layers: Sequence[nn.Module]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Unit embeddings (B, D) of normalized pictures, and of each layer its mean activation over the batch."""
    seen: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda *given: seen.append(given[2])) for layer in layers]
    try:
        z = models.unit(model.encode_image(images))
    finally:
        for hook in hooks:
            hook.remove()
    return z, [activation.float().mean(0) for activation in seen]


def change(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """‖clean − stamped‖ / ‖clean‖ of activations of any shape; 0 where the clean one is 0."""
    return (clean - stamped).norm() / clean.norm().clamp(min=torch.finfo(clean.dtype).tiny)


def critical(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Which units move: of two clusters of |clean − stamped| by k-means, the one of the larger mean; 0 or 1,
    of the activations' shape."""
    moved = (clean - stamped).abs().flatten().double().cpu().numpy()[:, None]
    found = KMeans(2, n_init=1, random_state=0).fit(moved)
    larger = found.labels_ == int(np.argmax(found.cluster_centers_[:, 0]))
    return torch.from_numpy(larger).view(clean.shape).to(clean)


@torch.no_grad()
def moved_most(model: nn.Module, view: View, trigger: Trigger) -> tuple[list[nn.Module], list[torch.Tensor]]:
    """The layers that the trigger moves most, by `change`, and in each the units of `critical`; read on one
    batch of D_safe, as in the source."""
    images = view.pairs.images[view.outside[:BATCH]].to(device.pick()).float() / 255
    layers = candidates(model.eval())
    clean, stamped = (
        activations(model, models.normalize(model, shown), layers)[1] for shown in (images, trigger(images))
    )
    by = [change(a, b).item() for a, b in zip(clean, stamped, strict=True)]
    order = sorted(sorted(range(len(layers)), key=by.__getitem__)[-LAYERS:])  # as pictures pass them
    return [layers[i] for i in order], [critical(clean[i], stamped[i]) for i in order]


def tuning(
    model: nn.Module,
    trigger: Trigger,
    layers: Sequence[nn.Module],
    units: Sequence[torch.Tensor],
    keep: float,
) -> Objective:
    """Σ over layers of `change` of their critical units + keep · ‖embeddings − those of before‖.

    The last is of clean pictures, and as large as in a batch of the source whatever the batch [ours].
    """
    before = copy.deepcopy(model).eval().requires_grad_(False)

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        z, clean = activations(model, images, layers)
        shown = models.normalize(model, trigger(models.pixels(model, images)))
        _, stamped = activations(model, shown, layers)
        with torch.no_grad():
            old = models.unit(before.encode_image(images))
        align = [change(a * u, b * u) for a, b, u in zip(clean, stamped, units, strict=True)]
        return torch.stack(align).sum() + keep * (BATCH / len(z)) ** 0.5 * (z - old).norm()

    return objective


def invertune(model: nn.Module, view: View, recipe: Recipe, session: Session, keep: float = 0.5) -> History:
    """Invert the trigger, find the layers and units that it moves, and tune the image tower until they move
    no more. Each step has another batch of D_safe; the source tunes on one batch of 64 clean pictures."""
    trigger = inverted(model, view, session)
    layers, units = moved_most(model, view, trigger)
    objective = tuning(model, trigger, layers, units, keep)
    return train_outside(model, view, recipe, session, objective, "InverTune on D_safe")


DEVIATIONS = inversion.DEVIATIONS + listed(  # source: Goodman-liyu/InverTune, ActivationTuning.py
    ("tuned on", "one batch", "another batch of D_safe each step", "one batch would be fitted by heart"),
    ("batch", "64", "256", VICTIMS_BATCH),
    ("rate", "2e-6", "tuned", OTHER_NET),
    ("length", "200 steps", "tuned", ONE_RULE),
    ("schedule", "half a cosine of 100 steps, then up again", "half a cosine", "one fall to 0"),
    ("norm mode", "training", "tuned", ONE_RULE),
    ("gradient", "clipped to norm 1", "not clipped", ONE_LOOP),
    ("model that is kept", "that of the lowest loss", "the last", ONE_LOOP),
    ("weight of what is kept", "0.5", "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "invertune", invertune, ("D_safe", "class names"),
        "[related] arXiv 2506.12411; its adversarial noise, D_safe for clean pictures: ours",
        options={"keep": 0.5}, recipe={"weight_decay": 1e-4, "schedule": "cosine"}, cost=11 / 6, looks=LOOKS,
        deviations=DEVIATIONS,
    ),
)  # fmt: skip
