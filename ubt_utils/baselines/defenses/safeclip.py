"""SafeCLIP: pairs for what is safe, one modality at a time for the rest (Yang et al., arXiv 2310.05862).

[related] First each modality alone, then one epoch of CLIP at a low rate; a mixture of two Gaussians over the
cosines then says which pairs are safe (`baselines.safe`). These are trained with CLIP's loss, the risky ones
one modality at a time, and the safe part grows.
[related] BigML-CS-UCLA/SafeCLIP: 32 epochs, of which 5 of one modality and 1 of CLIP; rates 5e-4 and 5e-6;
two augmented views of pictures and captions, of which CLIP's loss crosses the one with the other; alone, the
second view is matched with the nearest to the first in a queue of 256 (as in NNCLR); D is split anew before
each epoch. [ours] the steps, rates and schedule are the victim's, and so is the start, f0 where there is one.
A batch holds safe and risky pairs, and each part's loss counts by its share, where the public code trains on
one part after the other. The views are this kit's augmentation, of pose and color, and EDA without a
thesaurus.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import nn

from ubt_utils.baselines import phases, queue, safe
from ubt_utils.baselines.defenses.cleanclip import eda, within
from ubt_utils.baselines.deviations import CAPTIONS, PICTURES, SCHEDULE, START
from ubt_utils.clip import models
from ubt_utils.clip.augment import augment
from ubt_utils.clip.objectives import Objective, gathered
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History, batch_indices
from ubt_utils.core import distributed
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import VICTIMS, listed

LEAST = 2  # pairs, below which nothing can be told apart
ALONE, LOW, SAFE = "each modality alone", "CLIP at a low rate", "SafeCLIP on D"  # the three phases


@dataclass(frozen=True)
class Views:
    """Two views of a batch: unit embeddings (2, B, D) of its pictures and captions, and the temperature
    ()."""

    images: torch.Tensor
    texts: torch.Tensor
    scale: torch.Tensor

    def of(self, rows: torch.Tensor) -> Views:
        """Those at `rows`, (B,) bool."""
        return Views(self.images[:, rows], self.texts[:, rows], self.scale)


def views_of(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, *key: object) -> Views:
    """Two views of normalized pictures (b, 3, H, W) and captions (b, L); of all ranks together."""
    key, plain = (*key, *distributed.own()), models.pixels(model, images)
    draw, words = generator(*key, "pictures"), random.Random(repr((*key, "captions")))
    pictures = torch.cat([augment(plain, draw), augment(plain, draw)])
    captions = torch.cat([eda(tokens.cpu(), words), eda(tokens.cpu(), words)]).to(tokens.device)
    z, t, scale = models.embed_pairs(model, models.normalize(model, pictures), captions)
    pairs = [gathered(*both) for both in zip(z.chunk(2), t.chunk(2), strict=True)]
    return Views(torch.stack([z for z, _ in pairs]), torch.stack([t for _, t in pairs]), scale)


def crossed(views: Views) -> torch.Tensor:
    """CLIP's loss between the first view of one modality and the second of the other."""
    (z, z2), (t, t2) = views.images, views.texts
    return (within(z, t2, views.scale) + within(t, z2, views.scale)) / 2


def alone(views: Views, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """The contrastive loss of each modality alone: the second view against the nearest to the first in the
    queues `images` and `texts` (Q, D), into which the first view goes afterwards."""
    (z, z2), (t, t2) = views.images, views.texts
    loss = within(z2, queue.nearest(images, z), views.scale) + within(
        t2, queue.nearest(texts, t), views.scale
    )
    queue.push(images, z)
    queue.push(texts, t)
    return loss / 2


def split_loss(model: nn.Module, views: Views, risky: torch.Tensor) -> torch.Tensor:
    """Each modality alone for the risky pairs, (B,) bool, and CLIP's loss for the others, by their shares."""
    loss, share = 0 * views.scale, risky.float().mean()
    if int(risky.sum()) >= LEAST:
        loss = loss + share * alone(views.of(risky), model.queued_images, model.queued_texts)
    if int((~risky).sum()) >= LEAST:
        loss = loss + (1 - share) * crossed(views.of(~risky))
    return loss


def cosines(model: nn.Module, view: View, index: torch.Tensor) -> torch.Tensor:
    """(n,) of picture and caption of the pairs `index` (n,) of D; the model stays in the mode it was in."""
    training = [part for part in model.modules() if part.training]
    z = models.embed_images(model, take(view.pairs.images, index))
    found = (z * models.embed_tokens(model, view.tokens[index])).sum(1)
    for part in training:
        part.training = True
    return found


def everywhere(risky: bool, *key: object) -> Objective:
    """All pairs are risky, or none."""

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        views = views_of(model, images, tokens, *key, step)
        rows = torch.full((views.images.shape[1],), risky, device=images.device)
        return split_loss(model, views, rows)

    return objective


def splitting(
    view: View, index: torch.Tensor, batch: int, threshold: float, growth: float, *key: object
) -> Objective:
    """Splits D anew before each pass and keeps what is safe in the model's `safe`, (n,) bool."""
    per_pass = len(index) // min(batch, len(index))

    def objective(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        if step % per_pass == 0:
            found, before = cosines(model, view, index), int(model.safe.sum())
            kept = safe.grown(found, before, growth) if step else safe.first(found, threshold)
            model.safe.copy_(kept)
        rows = batch_indices(len(index), batch, step, *key)
        rows = rows[: len(rows) - len(rows) % distributed.count()].to(images.device)
        return split_loss(model, views_of(model, images, tokens, *key, step), ~model.safe[rows])

    return objective


def lengths(steps: int, per_pass: int, warmup: float) -> tuple[int, int, int]:
    """Steps of the three phases; the low rate has one pass, and a quarter of what is left at most [ours].
    ValueError for a run that is too short, or for a warm-up that leaves nothing."""
    if steps < 3 or not 0 < warmup < 1:
        raise ValueError(f"SafeCLIP needs 3 steps or more and a warm-up in (0, 1), got {steps} and {warmup}")
    first = min(max(1, round(warmup * steps)), steps - 2)
    low = max(1, min(per_pass, (steps - first) // 4))
    return first, low, steps - first - low


def planned(
    view: View, index: torch.Tensor, recipe: Recipe, session: Session, warmup: float, slow: float,
    threshold: float, growth: float,
) -> list[phases.Phase]:  # fmt: skip
    """The three phases on the pairs `index` (n,) of D."""
    per_pass = len(index) // min(recipe.batch, len(index))
    counts = lengths(recipe.steps, per_pass, warmup)
    first, low, rest = (
        replace(recipe, steps=n, warmup=min(n, recipe.warmup), augment="none") for n in counts
    )
    low = replace(low, lr=slow * recipe.lr, schedule="constant", warmup=0)
    keys = [phases.key_of(session, label) for label in (ALONE, LOW, SAFE)]
    return [
        phases.Phase(ALONE, first, everywhere(True, *keys[0])),
        phases.Phase(LOW, low, everywhere(False, *keys[1])),
        phases.Phase(SAFE, rest, splitting(view, index, recipe.batch, threshold, growth, *keys[2])),
    ]


def safeclip(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    warmup: float = 5 / 32,
    slow: float = 0.01,
    threshold: float = 0.9,
    growth: float = 0.01,
    places: int = 256,
) -> History:
    """Train the public model on all of D, in place of `model`, as many steps as the victim did. warmup: the
    part of them for each modality alone; slow: the low rate, as a part of the victim's; threshold and growth:
    of the safe part, see `baselines.safe`; places: of each queue."""
    index, width = view.everything, queue.width_of(model)
    model.load_state_dict(view.model("public").state_dict())
    queues = {name: queue.empty(places, width) for name in ("queued_images", "queued_texts")}
    parts = planned(view, index, recipe, session, warmup, slow, threshold, growth)
    with queue.held(model, safe=torch.zeros(len(index), dtype=torch.bool), **queues):
        return phases.train(model, view, index, parts, session)


DEVIATIONS = listed(  # source: BigML-CS-UCLA/SafeCLIP, src/parser.py, src/main.py, src/train.py and utils/
    START,
    ("batch", "128", "256", VICTIMS),
    ("rate", "5e-4", "the victim's", VICTIMS),
    ("length", "32 epochs", "the victim's", VICTIMS),
    SCHEDULE,
    PICTURES,
    CAPTIONS,
    ("low rate", "5e-6", "1 % of the victim's", "the same part"),
    ("safe and risky pairs", "one after the other", "in one batch, by their shares",
     "one training loop for all rivals"),
    ("optimizer", "one AdamW for all phases", "AdamW, fresh in each phase",
     "a phase is a training of its own"),
    ("schedule of a phase", "a part of a longer one", "its own", "a phase is a training of its own"),
    ("passes in which it grows", "26, by 1 % each", "those of the victim, by as much each", VICTIMS),
    ("queues at first", "random vectors", "empty", "noise would pull somewhere"),
)  # fmt: skip


DEFENSES = (
    Defense(
        "safeclip", safeclip, ("D", "f0"), "[related] arXiv 2310.05862; mixed batches, recipe, start: ours",
        options={"warmup": 5 / 32, "slow": 0.01, "threshold": 0.9, "growth": 0.01, "places": 256},
        recipe={"decay": "matrices"}, deviations=DEVIATIONS,
        cost=2.2, anew=True, whole=True,  # two views, and a look at all of D before each pass
    ),
)  # fmt: skip
