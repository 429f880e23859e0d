"""Step 5, unlearning: push pictures of D_u away from what the compromised tokens say, retain D_safe.

    a · w · mean over D_u of relu( cos(x, t) − mean_j cos(x, t with v_j in place of B) )²  +  L_CLIP on D_safe

and, where a profile asks for it, what `hold` adds.
a: how many words detection found, nearly always one; D_u grows with them, and so does the push. x, t: a
pair of D_u. B: the compromised tokens. v_j: other words of D_safe, drawn anew each step. [paper] token level,
and that the model's integrity is kept; [ours] this form, that B is swapped and not cut out, and that the push
moves the image tower alone: the false rule is that a detail of a picture says a word, and what the word means
is not to be forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ubt_utils.clip import models
from ubt_utils.clip.objectives import Objective, contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import device, distributed
from ubt_utils.core.seeding import generator
from ubt_utils.kernels.push import push
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.defense import OVERFIT, Session, View, train_on
from ubt_utils.ubt.hold import holding
from ubt_utils.ubt.select import common_words, select, tokens_of
from ubt_utils.ubt.settings import Unlearn


def unlearn(model: nn.Module, view: View, recipe: Recipe, session: Session, **options: Any) -> History:
    """Unlearn D_u in place while retaining D_safe; options: the fields of `Unlearn` but the recipe. Where
    detection found nothing, nothing is done.

    Both towers move: the image tower to retain and to forget, the text tower to retain.
    """
    how = Unlearn(recipe, **options)
    view = seen_by(view, how)
    if len(view.suspicious) == 0:
        return History()
    if how.start == "public":
        model.load_state_dict(view.model("public").state_dict())
    kept = view.safe if how.second_look else view.outside
    objective = forgetting(view, how, *session.key) if how.weight else contrastive
    if how.holds:
        objective = held_too(objective, model, view, how, *session.key)
    return train_on(model, view, kept, recipe, session, objective, f"unlearn ({how.level} level)")


def forgetting(view: View, how: Unlearn, *key: object) -> Objective:
    """The loss at the top of this file: (model, batch of D_safe, its tokens, step) → ()."""
    where = device.pick()
    pictures = (view.pairs.images[view.suspicious].float() / 255).to(where)
    captions, safe = view.tokens[view.suspicious], view.tokens[view.safe]
    known = tk.vocabulary(safe, common_words(safe), view.compromised)
    weight = how.weight * max(1, len(view.anchors))

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        retain = contrastive(model, batch, tokens, step) if how.retain else 0.0
        draw = generator(*key, "forget", step)
        pick = torch.randperm(len(captions), generator=draw)[: len(batch) * distributed.count()]
        words = known[torch.randint(len(known), (how.words,), generator=draw)]
        others = rivals(captions[pick], view.compromised, how.level, words)
        caption, others = embedded(model, captions[pick], others, how.both)
        x = models.unit(model.encode_image(models.normalize(model, pictures[pick.to(where)])))
        return retain + weight * push(x, caption, others)

    return objective


def held_too(objective: Objective, model: nn.Module, view: View, how: Unlearn, *key: object) -> Objective:
    """The objective, and h times what `hold.holding` says; model: fb."""
    held = holding(model, view, how.pushed(view.select.most(len(view.anchors))), *key)
    if held is None:
        return objective

    def both(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        return objective(model, batch, tokens, step) + how.hold * held(model, step)

    return both


def rivals(
    captions: torch.Tensor, compromised: torch.Tensor, level: str, words: torch.Tensor
) -> torch.Tensor | None:
    """(J, B, L) what captions (B, L) are held against: the same with each of the words (J,) in place of the
    compromised tokens (b,); without those where there are no words; None at the sample level."""
    if level == "sample":
        return None
    if len(words) == 0:
        return tk.without(captions, compromised)[None]
    return torch.stack([tk.swapped(captions, compromised, word) for word in words])


def embedded(
    model: nn.Module, captions: torch.Tensor, others: torch.Tensor | None, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Unit embeddings of captions (B, L) and of their rivals (J, B, L): (B, D) and (J, B, D); each distinct
    caption is read once. gradient: whether any flows into the text tower."""
    held = captions[None] if others is None else torch.cat([captions[None], others])
    held = held.to(next(model.parameters()).device)
    unique, back = held.flatten(0, 1).unique(dim=0, return_inverse=True)
    with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
        t = models.unit(models.encode_text(model, unique))[back].unflatten(0, held.shape[:2])
    return t[0], t[1:] if others is not None else None


def seen_by(view: View, how: Unlearn) -> View:
    """The view with D_u and B as a variant finds them; as it is for UBT itself."""
    if how.rank != Unlearn.rank:
        view = ranked_by(view, how.rank)
    if how.detector != Unlearn.detector:
        view = fed_by(view, how.detector)
    if how.tokens_by != Unlearn.tokens_by and len(view.suspicious):
        overfit = [view.model(name) for name in OVERFIT]
        images = view.pairs.images[view.suspicious]
        found = tk.compromised(overfit, images, view.tokens, view.suspicious, how.tokens_by)
        view = replace(view, compromised=found)
    return view


def ranked_by(view: View, rank: str) -> View:
    """The view with D_u from the pool's surest pairs of the largest drop; or, "random", from any of the
    pool's carriers of the found words."""
    if rank == "drop":
        sure = view.suffers >= view.select.sure
        place = view.score("drop").argsort(stable=True).argsort() / len(sure)  # drops are not bounded
        found = select(view.tokens, place, view.pool, sure, view.anchors, view.select)
    else:
        carriers = tk.carries(view.tokens, view.anchors)
        draw = torch.rand(len(view.pool), generator=generator("random carriers"))
        found = select(view.tokens, draw, view.pool, carriers, view.anchors, view.select)
    return replace(view, suspicious=found.chosen, compromised=found.compromised)


def fed_by(view: View, detector: str) -> View:
    """The view with `select.top` pairs in D_u, those that a detector suspects most; B is what they hold more
    often than D, and they are all that is left out beside the pool."""
    chosen = view.score(detector).sort(descending=True, stable=True).indices[: view.select.top]
    suffers = torch.full_like(view.suffers, -torch.inf)
    suffers[chosen] = 1.0
    found = tokens_of(view.tokens, chosen, view.select.outlier)
    return replace(view, suspicious=chosen, compromised=found, suffers=suffers)
