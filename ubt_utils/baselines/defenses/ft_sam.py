"""FT-SAM: fine-tune at the worst weights near by, so that large weights give way (arXiv 2304.11823).

The source fine-tunes a classifier with adaptive sharpness-aware minimization (Kwon et al., arXiv 2102.11600):
a weight may be moved in proportion to its own size, since neurons of a backdoor tend to be large. Its code
(SCLBD/BackdoorBench) perturbs every weight of the network with a constant ρ, follows a cosine, and keeps
batch norm in training mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.func import functional_call

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.clip import models
from ubt_utils.clip.objectives import clip_loss
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.ubt.defense import Defense, Session, View

TINY = 1e-12  # keeps a gradient of zero from dividing by zero, as the source does


def slope(loss: torch.Tensor, weights: Iterable[nn.Parameter]) -> list[torch.Tensor]:
    """Gradient of the loss by each weight, one for all ranks; what else the graph holds stays usable."""
    weights = list(weights)
    for weight in weights:
        weight.grad = None  # of the step before
    loss.backward(inputs=weights, retain_graph=True)
    distributed.average_gradients(weights)
    found = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    for weight in weights:
        weight.grad = None  # `fit` wants the gradient at the perturbed weights alone
    return found


def climb(
    weights: Mapping[str, torch.Tensor], gradients: Iterable[torch.Tensor], rho: float
) -> dict[str, torch.Tensor]:
    """θ + ρ θ² g / ‖θ g‖₂ by name, the norm taken over all weights together: the steepest way up within
    ‖change / θ‖₂ ≤ ρ. Gradients pass on to θ as if the change were a constant."""
    with torch.no_grad():
        gradients = list(gradients)
        sizes = [(w * g).norm() for w, g in zip(weights.values(), gradients, strict=True)]
        step = rho / (torch.stack(sizes).norm() + TINY)
        change = [step * w.square() * g for w, g in zip(weights.values(), gradients, strict=True)]
    return {name: w + more for (name, w), more in zip(weights.items(), change, strict=True)}


def ft_sam(model: nn.Module, view: View, recipe: Recipe, session: Session, rho: float = 2.0) -> History:
    """Fine-tune on D_safe, each step with the gradient of CLIP's loss where the image tower is worst.

    All weights are trained, as in the source; the image tower's alone are perturbed [ours]. A trigger acts
    there, and the temperature, one large number, could take up much of ρ. A tower that is locked in part is
    perturbed where it trains.
    """

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        weights = {name: w for name, w in model.visual.named_parameters() if w.requires_grad}
        z, t, scale = models.embed_pairs(model, images, tokens)
        up = slope(clip_loss(z, t.detach(), scale.detach()), weights.values())
        # The second pass leaves the running statistics of batch norm alone, as in the source.
        kept = {name: buffer.clone() for name, buffer in model.visual.named_buffers()}
        z = models.unit(functional_call(model.visual, {**climb(weights, up, rho), **kept}, (images,)))
        return clip_loss(z, t, scale)

    return train_outside(model, view, recipe, session, objective, "FT-SAM on D_safe")


DEFENSES = (
    Defense(
        "ft_sam", ft_sam, ("D_safe",),
        "[related] arXiv 2304.11823; CLIP's loss, AdamW, the image tower as what is perturbed: ours",
        options={"rho": 2.0}, recipe={"schedule": "cosine", "freeze_norm": False, "weight_decay": 5e-4}, cost=2.0,
    ),
)  # fmt: skip
