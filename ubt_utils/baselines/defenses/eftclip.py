"""EftCLIP-style fine-tuning: ask a segmentation oracle what the picture shows (arXiv 2511.13545).

No settings of the paper could be read. Its idea [related]: labels that the poisoned model gives and that the
oracle does not support point to trigger regions; affected labels and victims make a compact set to
fine-tune on. [ours]: the oracle is a classical one that can outline, but not name, so fb names what
it has outlined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from skimage.filters import threshold_otsu
from skimage.measure import label as regions
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import device, distributed
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.ubt.defense import Defense, Session, View

Oracle = Callable[[np.ndarray], np.ndarray]  # one picture (H, W, 3) uint8 → its main object (H, W) bool
LEAST = 2  # victims
PART = 4  # of a batch: victims in each step


def border_color(picture: np.ndarray) -> np.ndarray:
    """(3,) the median color of a picture's (H, W, 3) outermost pixels."""
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    return np.median(np.concatenate(edges), axis=0)


def main_object(picture: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest connected region that stands out from the border's color (Otsu, 1979)."""
    away = np.abs(picture.astype(float) - border_color(picture)).sum(-1)
    if away.max() == away.min():
        return np.ones(away.shape, bool)
    found = regions(away > threshold_otsu(away))
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    return found == sizes.argmax()


def alone(images: torch.Tensor, oracle: Oracle) -> torch.Tensor:
    """Pictures (N, 3, H, W) uint8 with all but their main object painted in the border's color."""
    out = []
    for picture in images.permute(0, 2, 3, 1).numpy():
        kept = np.where(oracle(picture)[..., None], picture, border_color(picture).astype(np.uint8))
        out.append(torch.from_numpy(kept))
    return torch.stack(out).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Victims:
    """Pairs of the pool (n,) that fb reads as the affected label only as long as it sees all of the picture,
    and the label (n,) that it gives their main object."""

    index: torch.Tensor
    label: torch.Tensor
    affected: int


def victims(model: nn.Module, view: View, oracle: Oracle) -> Victims:
    """Ask fb about the pool's pictures, whole and with the main object alone; the label that goes most often
    is the affected one."""
    head, asked = models.zero_shot_head(model, view.prompts), view.everything[view.pool[view.everything]]
    images = take(view.pairs.images, asked)
    whole = (models.embed_images(model, images) @ head.T).argmax(1)
    part = (models.embed_images(model, images, change=partial(alone, oracle=oracle)) @ head.T).argmax(1)
    affected = int(torch.bincount(whole[whole != part], minlength=len(head)).argmax())
    hit = (whole == affected) & (part != affected)
    return Victims(asked[hit], part[hit], affected)


def eftclip(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    weight: float = 1.0,
    oracle: Oracle = main_object,
) -> History:
    """Fine-tune on D_safe with L_CLIP + weight · cross-entropy of the victims, whole, to what their main
    object alone is read as. Where the oracle finds no victims it is plain fine-tuning."""
    found = victims(model, view, oracle)
    head = models.zero_shot_head(model, view.prompts).to(device.pick())

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        loss = contrastive(model, batch, tokens, step)
        if len(found.index) < max(LEAST, distributed.count()):
            return loss
        pick = torch.randperm(len(found.index), generator=generator(*session.key, "victims", step))
        pick = distributed.mine(pick[: max(1, len(batch) // PART) * distributed.count()])
        pictures = view.pairs.images[found.index[pick]].to(batch.device).float() / 255
        z = models.unit(model.encode_image(models.normalize(model, pictures)))
        logits = model.logit_scale.exp() * z @ head.T
        return loss + weight * F.cross_entropy(logits, found.label[pick].to(batch.device))

    return train_outside(model, view, recipe, session, objective, "EftCLIP: what the oracle outlines")


DEFENSES = (
    Defense(
        "eftclip", eftclip, ("D_safe", "D", "class names"),
        "[related] arXiv 2511.13545; oracle and loss: ours",
        options={"weight": 1.0}, cost=1 + 1 / PART, looks=0.5,  # a pool of a quarter, twice
    ),
)  # fmt: skip
