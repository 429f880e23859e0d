"""CleanCLIP: learn each modality alone beside the pair (Bansal et al., arXiv 2303.03323)."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.finetune import FINE_TUNED, PEERS, train_outside
from ubt_utils.clip import models
from ubt_utils.clip.augment import augment
from ubt_utils.clip.objectives import clip_loss, gathered
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.kernels.occlusion import inner
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import ONE_RULE, listed


def eda(tokens: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """Captions (B, L), each changed in one place: two tokens swapped, one left out, one put in, or
    one replaced; what is put in comes from another caption of the batch.

    EDA (Wei and Zou, arXiv 1901.11196) puts in synonyms and works on words; a thesaurus is not among
    this kit's packages, and captions of one word stay as they are [ours].
    """
    captions = [row[mask].tolist() for row, mask in zip(tokens, inner(tokens), strict=True)]
    words = [word for row in captions for word in row]
    changed = tokens.clone()
    for i, row in enumerate(captions):
        if len(row) > 1:
            new = _change(row, words, draw)[: tokens.shape[1] - 2]
            ends = tokens[i, 0].item(), tokens[i].max().item()
            filled = [ends[0], *new, ends[1]]
            changed[i] = torch.tensor(filled + [0] * (tokens.shape[1] - len(filled)))
    return changed


def _change(row: list[int], words: list[int], draw: random.Random) -> list[int]:
    at, kind = draw.randrange(len(row)), draw.randrange(4)
    if kind == 0:
        other = (at + draw.randrange(1, len(row))) % len(row)
        row[at], row[other] = row[other], row[at]
        return row
    put = [] if kind == 1 else [draw.choice(words)]
    return [*row[:at], *put, *row[at + (kind != 2) :]]


def within(one: torch.Tensor, other: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Contrastive loss between two views of one modality, (B, D) unit each: whose view is whose?"""
    return F.cross_entropy(scale * one @ other.T, torch.arange(len(one), device=one.device))


def cleanclip(model: nn.Module, view: View, recipe: Recipe, session: Session, weight: float = 1.0) -> History:
    """Fine-tune on D_safe with L_CLIP + weight · (image–image + text–text) / 2, as published; the second view
    of a picture is this kit's augmentation, of pose and color [ours]."""

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        key = (*session.key, "views", step, *distributed.own())
        again = models.normalize(model, augment(models.pixels(model, images), generator(*key)))
        edited = eda(tokens.cpu(), random.Random(repr(key))).to(tokens.device)
        z, t, scale = model(torch.cat([images, again]), torch.cat([tokens, edited]))
        (z, z2), (t, t2) = z.chunk(2), t.chunk(2)
        alone = (within(*gathered(z, z2), scale) + within(*gathered(t, t2), scale)) / 2
        return clip_loss(z, t, scale) + weight * alone

    return train_outside(model, view, recipe, session, objective, "CleanCLIP on D_safe")


DEVIATIONS = FINE_TUNED + listed(  # source: nishadsinghi/CleanCLIP, src/train.py, src/data.py and utils/
    ("second view of a picture", "AutoAugment", "pose and color", "AutoAugment's policy is for photos"),
    ("second view of a caption", "EDA on a tenth of its words", "EDA on one token",
     "captions of a few words"),
    ("new words in a caption", "synonyms", "tokens of other captions", "no thesaurus among the packages"),
    ("drawing of captions", "once, before training", "anew in each step", "nothing to store"),
    ("weight of the unimodal loss", "1", "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "cleanclip", cleanclip, ("D_safe",), "[related] arXiv 2303.03323; EDA without a thesaurus: ours",
        options={"weight": 1.0}, recipe=PEERS, cost=2.0, deviations=DEVIATIONS,
    ),
)  # fmt: skip
