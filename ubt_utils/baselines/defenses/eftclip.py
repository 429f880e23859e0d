"""EftCLIP: ask a segmentation oracle what a picture shows, and mend what it does not confirm (Hossain et
al., arXiv 2511.13545).

The paper's text could not be read, and there is no code; what follows is [related]: public summaries of it.
1. Candidates: the labels that the backdoored model gives to the whole picture and that the oracle (FastSAM)
   does not confirm, refined with the labels that the backdoored model gives to the regions cut out.
2. The labels that this happens to are the affected ones, the pictures that it happens to are the victims;
   both make a small set to fine-tune on.

[ours]: the oracle outlines with superpixels, and f0 names what it has outlined, as FastSAM's text prompts ask
a clean CLIP [related: CASIA-IVA-Lab/FastSAM]; how long the lists are; a candidate is kept where a region by
itself gets that label; how many candidates make a label an affected one; what the set says; that D_safe is
trained on beside it, since the set alone would cost the rest of what the model knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.finetune import train_outside
from ubt_utils.baselines.deviations import untold
from ubt_utils.baselines.regions import Oracle, cut_out, outlined
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.core import device, distributed
from ubt_utils.core.seeding import generator
from ubt_utils.ubt.defense import Defense, Session, View
from ubt_utils.ubt.deviation import ONE_RULE, listed

Names = Callable[[torch.Tensor], torch.Tensor]
ASKED = 256  # pictures at a time
CUT = 5  # regions of a picture, at most
LISTED = 3  # labels that the oracle confirms of each region, and of the picture
OUTLIER = 7.0  # robust deviations over the median from which a label has too many candidates
LEAST = 2  # pairs to fine-tune on
PART = 4  # of a batch: such pairs in each step


@dataclass(frozen=True)
class Answers:
    """What was said of n pictures: whole (n,) fb's label; confirmed (n,) whether the oracle lists it; seen
    (n,) whether fb gives it to a region alone; rest (n, C) fb's belief in each label, summed over regions."""

    whole: torch.Tensor
    confirmed: torch.Tensor
    seen: torch.Tensor
    rest: torch.Tensor

    @property
    def candidate(self) -> torch.Tensor:
        """(n,) whether fb's label may come from a trigger."""
        return self.seen & ~self.confirmed


def read(whole: torch.Tensor, regions: torch.Tensor, named: torch.Tensor, owner: torch.Tensor) -> Answers:
    """The first algorithm, from logits of C labels: fb's of n pictures (n, C) and of their m regions (m, C),
    and the oracle's of the regions, then of the pictures (m + n, C). owner: (m,) whose region it is."""
    n, count = whole.shape
    listed, seen = torch.zeros(2, n, count).bool()
    everyone = torch.cat([owner, torch.arange(n)])
    listed[everyone[:, None], named.topk(min(LISTED, count)).indices] = True
    seen[owner, regions.argmax(1)] = True
    rest = torch.zeros(n, count).index_add_(0, owner, regions.softmax(1))
    label = whole.argmax(1)
    each = torch.arange(n)
    return Answers(label, listed[each, label], seen[each, label], rest)


def ask(fb: Names, oracle: Names, images: torch.Tensor, outline: Oracle) -> Answers:
    """What both say of pictures (n, 3, H, W) uint8 and of their regions; all at once in memory."""
    cuts = [cut_out(picture, outline, CUT) for picture in images.permute(0, 2, 3, 1).numpy()]
    owner = torch.tensor([i for i, some in enumerate(cuts) for _ in some], dtype=torch.long)
    alone = [torch.from_numpy(one).permute(2, 0, 1) for some in cuts for one in some]
    shown = torch.cat([torch.stack(alone), images]) if alone else images
    logits = fb(shown)
    return read(logits[len(owner) :], logits[: len(owner)], oracle(shown), owner)


def names_of(model: nn.Module, view: View) -> Names:
    """What a model calls pictures: (n, 3, H, W) uint8 → (n, C) logits of the labels."""
    head, scale = models.zero_shot_head(model, view.prompts), model.logit_scale.exp().item()
    return lambda images: scale * models.embed_images(model, images) @ head.T


def affected(answers: Answers) -> torch.Tensor:
    """(C,) bool: the labels with far more candidates than others: OUTLIER deviations over the median, where a
    deviation is read from the median one, and one candidate more."""
    count = torch.bincount(answers.whole[answers.candidate], minlength=answers.rest.shape[1]).double()
    away = count - count.median()
    spread = 1.4826 * away.abs().median() + 1
    return (away / spread > OUTLIER) & (count >= LEAST)


@dataclass(frozen=True)
class Curated:
    """Pairs of D (n,) to fine-tune on, their labels (n,), and which are victims (n,)."""

    index: torch.Tensor
    label: torch.Tensor
    victim: torch.Tensor


def curated(model: nn.Module, view: View, outline: Oracle) -> Curated:
    """The second algorithm, over the pool. Victims get what their regions are read as, the affected labels
    aside; pictures whose affected label the oracle confirms keep it, so that it is not lost."""
    fb, oracle = names_of(model, view), names_of(view.model("public"), view)
    index = view.everything[view.pool[view.everything]]
    parts = [ask(fb, oracle, view.pairs.images[part], outline) for part in index.split(ASKED)]
    found = Answers(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Answers)))
    bad, victim = affected(found), found.candidate
    kept = bad[found.whole] & (victim | found.confirmed)
    label = torch.where(victim, found.rest.masked_fill(bad, -1).argmax(1), found.whole)
    return Curated(index[kept], label[kept], victim[kept])


def eftclip(
    model: nn.Module,
    view: View,
    recipe: Recipe,
    session: Session,
    weight: float = 1.0,
    oracle: Oracle = outlined,
) -> History:
    """Fine-tune on D_safe with L_CLIP + weight · cross-entropy of the curated pairs to their labels. Where
    there are none it is plain fine-tuning. oracle: outlines a picture; FastSAM's masks fit as they are."""
    found = curated(model, view, oracle)
    head = models.zero_shot_head(model, view.prompts).to(device.pick())

    def objective(model: nn.Module, batch: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        loss = contrastive(model, batch, tokens, step)
        if len(found.index) < max(LEAST, distributed.count()):
            return loss
        pick = torch.randperm(len(found.index), generator=generator(*session.key, "curated", step))
        pick = distributed.mine(pick[: max(1, len(batch) // PART) * distributed.count()])
        pictures = view.pairs.images[found.index[pick]].to(batch.device).float() / 255
        z = models.unit(model.encode_image(models.normalize(model, pictures)))
        logits = model.logit_scale.exp() * z @ head.T
        return loss + weight * F.cross_entropy(logits, found.label[pick].to(batch.device))

    return train_outside(model, view, recipe, session, objective, "EftCLIP: what the oracle does not confirm")


UNSAID = "not known (summaries only)"
DEVIATIONS = listed(  # source: arXiv 2511.13545, its abstract and public summaries
    ("oracle", "FastSAM", "superpixels, named by f0", "no segmentation model among the packages"),
    ("the oracle's prompt", "the victim's list (summaries only)", "none", "superpixels take none"),
    ("candidates", "the victim's list less the oracle's", "the top label, if not confirmed",
     "one label is enough for ASR"),
    ("regions of a picture", UNSAID, "5 at most", "each is asked about twice"),
    ("confirmed labels", UNSAID, "3 of each region and of the picture", "a list as short as may be"),
    ("affected labels", UNSAID, "more candidates than 7 deviations over the median", "no rule is known"),
    ("pictures asked about", UNSAID, "the pool", "the rest counts as safe"),
    ("set to fine-tune on", "affected labels and victims (summaries only)", "D_safe beside them",
     "else CA is lost"),
    ("loss", UNSAID, "CLIP's + weighted cross-entropy of the set", "the set has labels, no captions"),
    ("weight of the set", UNSAID, "tuned", ONE_RULE),
    *untold(UNSAID),
    ("weight decay", UNSAID, "0.1, of all weights", "the fine-tuning baseline's"),
    ("norm mode", UNSAID, "tuned", ONE_RULE),
)  # fmt: skip


DEFENSES = (
    Defense(
        "eftclip", eftclip, ("D_safe", "D", "f0", "class names"),
        "[related] arXiv 2511.13545; oracle, lists and loss: ours",
        # a pool of a quarter: each picture and its regions, asked of fb and of f0
        options={"weight": 1.0}, cost=1 + 1 / PART, looks=(1 + CUT) * 2 / 4,
        deviations=DEVIATIONS,
    ),
)  # fmt: skip
