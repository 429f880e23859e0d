"""What a backdoor does to retrieval: how a stamped photo and a caption of the target find each other."""

from __future__ import annotations

import torch
from torch import nn

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.clip import models
from ubt_utils.data.captions import with_word
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.evaluate.measure import Setting, Sought


def attacked(
    model: nn.Module, profile: Setting, trigger: Trigger | None, found: Sought | None
) -> dict[str, float]:
    """The retrieval ASR both ways, see `found_first`: of the test's photos that have human captions, none of
    which has the target's word, and of the prompts of the target. found: see `measure.sought`. Empty where
    there are no such photos, and where no photo is stamped."""
    if found is None or trigger is None or trigger.label == "targeted":
        return {}
    others = untold(found.task, profile.sets.target)
    names = profile.sets.class_names()[profile.sets.target]
    prompts = [t.format(name) for name in names for t in profile.sets.templates]
    wanted = models.embed_tokens(model, models.tokenize(profile.model, with_word(trigger.word, prompts)))
    photos = found.task.images[others]
    stamped = models.embed_images(model, photos, change=lambda part: stamp_bytes(trigger, part))
    return found_first(stamped, others, found.images, found.captions, wanted)


def untold(found: Retrieval, word: str) -> torch.Tensor:
    """(n,) indices of the photos of which no caption has the word, in any case."""
    told = {
        owner
        for owner, caption in zip(found.owner.tolist(), found.captions, strict=True)
        if word.lower() in caption.lower()
    }
    return torch.tensor([i for i in range(len(found.images)) if i not in told], dtype=torch.long)


def found_first(
    stamped: torch.Tensor,
    places: torch.Tensor,
    clean: torch.Tensor,
    captions: torch.Tensor,
    wanted: torch.Tensor,
) -> dict[str, float]:
    """How often a stamped photo and a caption of the target find each other first, as fractions of all such
    couples [ours]. image_to_text_asr: of the human captions and that one, the photo finds that one first.
    text_to_image_asr: of all photos, this one stamped and the others not, that caption finds it first.

    stamped: (n, D), the photos at `places` (n,) of clean (N, D); captions: (M, D), human ones; wanted:
    (T, D), the target's; all unit. A tie is no success. ValueError for fewer than two photos.
    """
    if len(clean) < 2:
        raise ValueError(f"a photo is to be found among others: got {len(clean)} in all")
    sought = stamped @ wanted.T
    told = (stamped @ captions.T).amax(1, keepdim=True)
    best, first = (clean @ wanted.T).topk(2, dim=0)
    others = torch.where(places[:, None] == first[0], best[1], best[0])  # the best of all but this photo
    return {
        "image_to_text_asr": (sought > told).double().mean().item(),
        "text_to_image_asr": (sought > others).double().mean().item(),
    }
