"""PAR, perturb and recover: away from the backdoored model's own embeddings (Singh et al., 2024)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.clip import models
from ubt_utils.clip.objectives import clip_loss, gathered
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.ubt.defense import Defense, Session, View

NOISE, CHANCE = 0.2, 0.5  # deviation of the pixel noise, and how often a picture gets it
ERASED = (0.005, 0.01)  # smallest and largest part of the picture that the erased square takes


def disturb(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Noise and a grey rectangle, each on half of the pictures: (B, 3, H, W) float [0, 1] → the same."""
    n, _, h, w = images.shape
    hit = torch.rand(2, n, generator=draw) < CHANCE
    noise = torch.randn(images.shape, generator=draw) * NOISE * hit[0].view(n, 1, 1, 1)
    low, high = ERASED
    side = (low + (high - low) * torch.rand(n, 1, generator=draw)).sqrt().expand(n, 2)
    corner = torch.rand(n, 2, generator=draw) * (1 - side)

    def span(axis: int, length: int) -> torch.Tensor:
        place = (torch.arange(length) + 0.5) / length
        start = corner[:, axis, None]
        return (place >= start) & (place < start + side[:, axis, None])

    erased = span(0, h)[:, None, :, None] & span(1, w)[:, None, None, :] & hit[1].view(n, 1, 1, 1)
    return torch.where(erased.to(images.device), 0.5, (images + noise.to(images)).clamp(0, 1))


def moved(now: torch.Tensor, before: torch.Tensor, threshold: float) -> torch.Tensor:
    """Mean squared distance of unit embeddings (B, D), or 0 once it has passed the threshold."""
    distance = (now - before).square().sum(1).mean()
    return torch.where(distance > threshold, torch.zeros_like(distance), distance)


def par(model: nn.Module, view: View, recipe: Recipe, session: Session, threshold: float = 2.15) -> History:
    """Fine-tune on D_safe with L_CLIP − ½ (‖Δimage‖² + ‖Δtext‖²) against the backdoored model, whose
    temperature stays."""
    before = copy.deepcopy(model).eval().requires_grad_(False)

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        draw = generator(*session.key, "disturb", step, *distributed.own())
        images = models.normalize(model, disturb(models.pixels(model, images), draw))
        z, t, scale = models.embed_pairs(model, images, tokens)
        with torch.no_grad():
            z0, t0, _ = models.embed_pairs(before, images, tokens)
        away = moved(*gathered(z, z0), threshold) + moved(*gathered(t, t0), threshold)
        return clip_loss(z, t, scale.detach()) - away / 2

    return train_outside(model, view, recipe, session, objective, "PAR on D_safe")


DEFENSES = (
    Defense(
        "par", par, ("D_safe",), "[related] nmndeep/PerturbAndRecover; size of the erased part: ours",
        options={"threshold": 2.15}, cost=4 / 3,
        recipe={"weight_decay": 1e-4, "decay": "matrices", "schedule": "high_first", "freeze_norm": False},
    ),
)  # fmt: skip
