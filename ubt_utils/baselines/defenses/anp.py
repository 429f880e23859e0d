"""ANP, adversarial neuron pruning: cut channels through which a push does most harm (arXiv 2110.14430).

The source gives every channel of every batch norm a mask, and learns the masks while the channels' weights
and biases are pushed to where a few clean pictures are classified worst: what only a backdoor needs is
sensitive to that, and goes. Its settings [related: csdongxian/ANP_backdoor]: pushes up to ε = 0.4 of each
weight and bias, one step of their sign from a random start, α = 0.2 of the loss without a push, SGD at 0.2
with momentum 0.9 for 2,000 steps of 128 pictures, batch norm in training mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.func import functional_call

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective, clip_loss
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import NO_CLEAN, NO_LABELS, ONE_LOOP, ONE_RULE, OTHER_NET, VICTIMS_BATCH, listed

MASK = "neuron_mask"  # the model's parameter while masks are learned
Loss = Callable[[torch.Tensor], torch.Tensor]


def norms(tower: nn.Module) -> dict[str, nn.Module]:
    """The batch norms of a tower whose weights train, by name; ValueError where it has none."""
    found = {
        name: part
        for name, part in tower.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine and part.weight.requires_grad
    }
    if not found:
        raise ValueError(
            "ANP masks the channels of batch norms, and this image tower has none that trains (a ViT has "
            "none at all): take a ResNet, or another defense"
        )
    return found


def split(channels: torch.Tensor, layers: Mapping[str, nn.Module]) -> tuple[torch.Tensor, ...]:
    """(…, C) of all layers' channels → one table a layer."""
    return channels.split([len(layer.weight) for layer in layers.values()], -1)


def scaled(
    layers: Mapping[str, nn.Module], mask: torch.Tensor, push: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """The layers' weights times mask (C,), their biases as they are; a push (2, C) adds its first row to the
    weights' factor and its second to the biases', which is 1."""
    push = torch.zeros(2, len(mask)).to(mask) if push is None else push
    out = {}
    for (name, layer), m, by in zip(layers.items(), split(mask, layers), split(push, layers), strict=True):
        out[f"{name}.weight"] = layer.weight.detach() * (m + by[0])
        out[f"{name}.bias"] = layer.bias.detach() * (1 + by[1])
    return out


def worst(loss: Loss, start: torch.Tensor, eps: float) -> torch.Tensor:
    """One step of size ε along the sign of the loss's gradient, one for all ranks. As in the source's code,
    nothing cuts it off: from a random start within ε it ends within 2ε."""
    push = start.clone().requires_grad_()
    loss(push).backward()
    distributed.average_gradients([push])
    assert push.grad is not None
    return start + eps * push.grad.sign()


def masking(layers: Mapping[str, nn.Module], eps: float, alpha: float, *key: object) -> Objective:
    """α · CLIP's loss under the masks + (1 − α) · the same where the channels are also pushed."""

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        mask = getattr(model, MASK)
        with torch.no_grad():
            mask.clamp_(0, 1)  # of the step before
            t, scale = models.unit(models.encode_text(model, tokens)), model.logit_scale.exp()

        def loss(mask: torch.Tensor, push: torch.Tensor | None = None) -> torch.Tensor:
            # The victim's running statistics must outlast passes of channels that are pushed.
            kept = {name: buffer.clone() for name, buffer in model.visual.named_buffers()}
            z = functional_call(model.visual, {**scaled(layers, mask, push), **kept}, (images,))
            return clip_loss(models.unit(z), t, scale)

        start = eps * (2 * torch.rand(2, len(mask), generator=generator(*key, "push", step)) - 1)
        push = worst(lambda push: loss(mask.detach(), push), start.to(mask), eps)
        return alpha * loss(mask) + (1 - alpha) * loss(mask, push)

    return objective


@torch.no_grad()
def prune(layers: Mapping[str, nn.Module], mask: torch.Tensor, portion: float) -> None:
    """Set to zero, in place, the weights of that portion of all channels (rounded up) with the smallest masks
    (C,); biases stay, as in the source."""
    count = math.ceil(portion * len(mask))
    kept = torch.ones_like(mask)
    kept[mask.argsort(stable=True)[:count]] = 0
    for layer, rows in zip(layers.values(), split(kept, layers), strict=True):
        layer.weight.mul_(rows)


def anp(
    model: nn.Module, view: View, recipe: Recipe, session: Session, eps: float = 0.4, alpha: float = 0.2,
    portion: float = 0.05,
) -> History:  # fmt: skip
    """Learn masks on D_safe with CLIP's loss, then prune the image tower; no weight is trained.

    The source prunes below a mask's threshold, or a number of channels, and its code sweeps both while it
    measures the attack, which no defender here can do; a portion [ours] is the number, whatever the width.
    Its SGD is AdamW here, and its 2,000 steps are as many as the budget pays for [ours]. The model is what
    it was until the masks are done: its curve has two points.
    """
    if not 0 < portion <= 1:
        raise ValueError(f"portion must be above 0 and at most 1, got {portion}: it is the part to prune")
    layers = norms(model.visual)
    channels = sum(len(layer.weight) for layer in layers.values())
    model.requires_grad_(False)
    model.register_parameter(MASK, nn.Parameter(torch.ones(channels).to(next(model.parameters()))))
    objective = masking(layers, eps, alpha, *session.key)
    history = train_outside(model, view, recipe, replace(session, watch=None), objective, "ANP: masks")
    mask = model.get_parameter(MASK).detach()
    delattr(model, MASK)
    history.note(0, session.watch)
    prune(layers, mask, portion)
    history.note(recipe.steps, session.watch)
    return history


DEVIATIONS = listed(  # source: csdongxian/ANP_backdoor, optimize_mask_cifar.py and prune_neuron_cifar.py
    ("loss", "cross-entropy of labels", "CLIP's", NO_LABELS),
    ("masked norms", "all of the network", "the image tower's", "the text tower has none"),
    ("size of the push", "0.4", "tuned", ONE_RULE),
    ("channels to prune", "swept, ASR measured at each", "a tuned portion",
     "no defender here can measure ASR"),
    ("clean data", "500 labelled pictures", "D_safe: D outside the pool, unchecked", NO_CLEAN),
    ("augmentation", "crops and flips", "none", "the fine-tuning baseline's"),
    ("optimizer", "SGD, momentum 0.9", "AdamW, fresh", ONE_LOOP),
    ("batch", "128", "256", VICTIMS_BATCH),
    ("rate", "0.2", "tuned", OTHER_NET),
    ("length", "2,000 steps", "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "anp", anp, ("D_safe",), "[related] arXiv 2110.14430; CLIP's loss, AdamW, a portion to prune: ours",
        options={"eps": 0.4, "alpha": 0.2, "portion": 0.05},
        recipe={"lr": 0.02, "weight_decay": 0.0, "schedule": "constant", "freeze_norm": False},
        deviations=DEVIATIONS,
        cost=2.0,  # no weight asks for a gradient: three passes forward and three half ones back
    ),
)  # fmt: skip
