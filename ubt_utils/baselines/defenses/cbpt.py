"""CBPT, class-wise backdoor prompt tuning: every class learns its prompt, no weight moves (arXiv 2502.19269).

Its text beyond the abstract could not be read, and no code was found. The abstract's are: an inverted
trigger, prompts of each class's own, three losses that move the decision boundary, weights that stay. Which
losses, the form of the prompts, and InverTune's inversion in place of its contrastive one are [ours].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.supervised import labelled
from ubt_utils.baselines.deviations import untold
from ubt_utils.baselines.inversion import LOOKS, inverted
from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History, fit
from ubt_utils.core import device
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.kernels.occlusion import inner
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import NO_CLEAN, NO_LABELS, ONE_RULE, UNREAD, listed

CONTEXT = 4  # words at the start of a prompt that are learned, as many as CoOp has in "a photo of a"


class Prompts(nn.Module):
    """A frozen model with context of each class's own, (C, CONTEXT, W): what is added to the embeddings of
    the first words of that class's prompts, W wide; 0 at first, so that learning starts from the zero-shot
    head. (CoOp, arXiv 2109.01134, puts learned words in their place.)"""

    def __init__(self, model: nn.Module, prompts: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.model, self.prompts, self.logit_scale = model.requires_grad_(False), prompts, model.logit_scale
        width = model.token_embedding.embedding_dim
        self.context = nn.Parameter(torch.zeros(len(prompts), CONTEXT, width, device=device.pick()))

    def read(self, tokens: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(N, D) unit embeddings of prompts (N, L) of classes (N,)."""
        tokens = tokens.to(self.context.device)
        shown = inner(tokens)[:, 1 : CONTEXT + 1, None]  # a shorter prompt has fewer words to learn
        added = F.pad(self.context[classes.to(tokens.device)][:, : shown.shape[1]] * shown, (0, 0, 1, 0))

        def add(embedding: nn.Module, given: tuple, words: torch.Tensor) -> torch.Tensor:
            length = words.shape[1]  # as far as the longest prompt goes
            return words + F.pad(added[:, :length], (0, 0, 0, max(0, length - added.shape[1])))

        hook = self.model.token_embedding.register_forward_hook(add)
        try:
            return models.unit(models.encode_text(self.model, tokens))
        finally:
            hook.remove()

    def one_each(self, *key: object) -> tuple[torch.Tensor, torch.Tensor]:
        """(C, D) one prompt of each class, drawn at random, as learned and as written."""
        draw = torch.rand(len(self.prompts), generator=generator(*key))
        rows = [p[int(x * len(p))] for p, x in zip(self.prompts, draw.tolist(), strict=True)]
        tokens = torch.stack(rows)
        with torch.no_grad():
            written = models.unit(models.encode_text(self.model, tokens.to(self.context.device)))
        return self.read(tokens, torch.arange(len(tokens))), written

    @torch.no_grad()
    def head(self, batch: int = 2048) -> torch.Tensor:
        """(C, D) unit class weights: the normalized mean of each class's learned prompts."""
        sizes = [len(p) for p in self.prompts]
        tokens = torch.cat(list(self.prompts))
        owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        parts = [self.read(t, c) for t, c in zip(tokens.split(batch), owner.split(batch), strict=True)]
        return F.normalize(torch.stack([part.mean(0) for part in torch.cat(parts).split(sizes)]), dim=-1)


def purifying(repel: float, keep: float, *key: object) -> Objective:
    """Cross-entropy of clean pictures + `repel` · that of stamped ones, both for their own class, + `keep` ·
    mean (1 − cos) of prompts as learned and as written. Pictures come as embeddings (B, 2, D)."""

    def objective(model: nn.Module, pictures: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
        learned, written = model.one_each(*key, "prompts", step)
        clean, stamped = (
            F.cross_entropy(model.logit_scale.exp() * z @ learned.T, labels) for z in pictures.unbind(1)
        )
        return clean + repel * stamped + keep * (1 - (learned * written).sum(1)).mean()

    return objective


def cbpt(
    model: nn.Module, view: View, recipe: Recipe, session: Session, repel: float = 1.0, keep: float = 1.0
) -> History:
    """Learn prompts under which stamped pictures are read as what they show; the model gets their head, and
    keeps its weights. Labels come from captions [ours]."""
    index, label = labelled(view)
    trigger = inverted(model, view, session)
    shown = take(view.pairs.images, index)
    z = [models.embed_images(model, shown, change=change) for change in (None, trigger.stamp)]
    learner = Prompts(model, view.prompts)
    objective = purifying(repel, keep, *session.key)
    history = History()
    history.note(0, session.watch)
    trained = fit(
        learner, torch.stack(z, 1), label, recipe, *session.key,
        objective=objective, checkpoint=session.checkpoint, label="CBPT: prompts of each class",
    )  # fmt: skip
    models.add_probe(model, learner.eval().head())
    trained.curve, trained.watched = history.curve, trained.watched + history.watched
    trained.note(recipe.steps, session.watch)
    return trained


DEVIATIONS = listed(  # source: arXiv 2502.19269, abstract only
    ("trigger", "inverted by contrastive learning (abstract only)", "InverTune's",
     "one inversion for all rivals"),
    ("prompts", "one of each class (abstract only)", "an offset of each class's first 4 words",
     "as many as in CoOp"),
    ("first loss", UNREAD, "cross-entropy of clean pictures", "keeps the accuracy"),
    ("second loss", UNREAD, "cross-entropy of stamped pictures", "undoes the trigger"),
    ("third loss", UNREAD, "distance from prompts as written", "keeps what they mean"),
    ("weight of the second loss", UNREAD, "tuned", ONE_RULE),
    ("weight of the third loss", UNREAD, "1", "one weight is tuned"),
    ("clean data", UNREAD, "D_safe: D outside the pool, unchecked", NO_CLEAN),
    ("labels", UNREAD, "classes named in captions", NO_LABELS),
    *untold(UNREAD),
    ("weight decay", UNREAD, "none", "offsets start at 0"),
)  # fmt: skip


DEFENSES = (
    Defense(
        "cbpt", cbpt, ("D_safe", "class names"),
        "[related] arXiv 2502.19269, its abstract; trigger as in InverTune, losses, labels: ours",
        options={"repel": 1.0, "keep": 1.0}, recipe={"weight_decay": 0.0}, cost=4 / 3,
        looks=LOOKS + 2, deviations=DEVIATIONS,
    ),
)  # fmt: skip
