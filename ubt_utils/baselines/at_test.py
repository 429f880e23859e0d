"""Detection at test time: a score per test picture, where `detectors` score the pairs that a victim trained
on.

BDetCLIP (Niu et al., arXiv 2405.15269): a stamped picture hardly notices what stands beside a class in a
text. Per class there are descriptions of it (benign) and its prompts, spoiled by an unrelated text
(malignant); what a picture gains from the first over the second, over all classes, is low for stamped
pictures [paper].

[paper] GPT-4 writes the descriptions, and the unrelated sentences; the class's name stays in the malignant
texts. [related] seven descriptions a class, and each of the 80 prompts followed by one sentence a class, as
jsrdcht/SSL-Backdoor, which is by others, has it. [ours] no language model is at hand: a class's own prompts
stand in for its descriptions, and a few sentences written for this kit for the unrelated ones; a class gets
one that does not hold its name. A model that has never read such words, as those of emoji have not, puts them
anywhere: what it then scores is not the method's fault alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.clip import models
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import Images, take
from ubt_utils.evaluate import measure, metrics
from ubt_utils.ubt.deviation import NO_CLEAN, listed

TRIES = 20  # sentences drawn for a class until one does not name it
SENTENCES = (
    "The train leaves the station at noon.",
    "Rain falls on the quiet street.",
    "Workers repair the old bridge.",
    "A choir sings in the evening.",
    "Waves roll against the shore.",
    "The baker kneads the dough.",
    "Leaves turn red in autumn.",
    "Students read in the library.",
)


DEVIATIONS = listed(  # source: Purshow/BDetCLIP_badCLIP, src/evaluate.py, and jsrdcht/SSL-Backdoor, bdetclip/
    ("benign texts", "7 descriptions a class, by GPT-4", "the class's own prompts",
     "no language model is at hand"),
    ("malignant texts", "one generated sentence a class", "one of 8, written for this kit",
     "no language model is at hand"),
    ("prompts to spoil", "80 templates", "the data set's prompts", "those of zero-shot"),
    ("score of a picture", "a sum over classes", "a mean over classes", "the order is the same"),
    ("threshold", "from clean pictures", "none: AUROC", NO_CLEAN),
    ("test pictures", "1,000, 30 % of them stamped", "all, clean and stamped", "AUROC asks for no share"),
)  # fmt: skip


def malignant(
    prompts: Sequence[Sequence[str]], names: Sequence[Sequence[str]], texts: Sequence[str], *key: object
) -> list[list[str]]:
    """Per class its prompts, each followed by one of `texts` that is drawn for the class and holds none of
    its names. ValueError where no such text turns up."""
    return [
        [f"{prompt} {other}" for prompt in own]
        for own, other in zip(prompts, _unrelated(names, texts, *key), strict=True)
    ]


def _unrelated(names: Sequence[Sequence[str]], texts: Sequence[str], *key: object) -> list[str]:
    """Per class one of the texts that holds none of its names."""
    if not texts:
        raise ValueError("no unrelated texts: hand over some sentences")
    drawn = torch.randint(len(texts), (len(names), TRIES), generator=generator(*key, "unrelated")).tolist()
    found = []
    for own, places in zip(names, drawn, strict=True):
        fit = [texts[i] for i in places if not any(name.lower() in texts[i].lower() for name in own)]
        if not fit:
            raise ValueError(f"all texts drawn hold the name {own[0]!r}: hand over others")
        found.append(fit[0])
    return found


def bdetclip(
    model: nn.Module,
    images: Images,
    benign: Sequence[torch.Tensor],
    malignant: Sequence[torch.Tensor],
    change: models.Change | None = None,
) -> torch.Tensor:
    """(N,) how suspicious each picture is, higher = more: minus the mean over the classes of its cosine with
    the class's benign texts less that with its malignant ones.

    images: (N, 3, H, W) uint8; benign, malignant: per class (P, L) tokens, of which the normalized mean
    counts [related]. change: what happens to each batch of pictures before. Costs one pass over the pictures.
    """
    if len(benign) != len(malignant):
        raise ValueError(f"benign texts of {len(benign)} classes, but malignant ones of {len(malignant)}")
    apart = models.zero_shot_head(model, benign) - models.zero_shot_head(model, malignant)
    return -models.embed_images(model, images, change=change) @ apart.mean(0)


def detected(
    model: nn.Module,
    profile: measure.Setting,
    trigger: Trigger | None,
    texts: Sequence[str] = SENTENCES,
    limit: int | None = None,
    split: str = measure.TEST,
) -> Mapping[str, float]:
    """AUROC and the like (see `metrics.detection`) of BDetCLIP: stamped test pictures, without those of the
    target, against all clean ones. texts: the unrelated ones. limit: at most about so many pictures; None:
    all. ValueError for an attack that stamps nothing.
    """
    if trigger is None or trigger.label == "targeted":
        raise ValueError("detection at test time needs a trigger that changes pictures: name such an attack")
    task = measure.some_of(profile, limit, split)
    prompts = task.prompts()
    spoiled = malignant(prompts, task.names, texts, "bdetclip")
    benign, against = ([models.tokenize(profile.model, own) for own in side] for side in (prompts, spoiled))
    others = take(task.images, (task.labels != task.target).nonzero().flatten())
    clean = bdetclip(model, task.images, benign, against)
    stamped = bdetclip(model, others, benign, against, lambda part: stamp_bytes(trigger, part))
    truth = torch.arange(len(clean) + len(stamped)) >= len(clean)
    return metrics.detection(torch.cat([clean, stamped]), truth, min(64, len(truth)))
