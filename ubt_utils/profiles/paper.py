"""The published setting: OpenAI's CLIP, half a million pairs of the web, ImageNet. Never run by us so far;
`benchmarks/published.py` runs it in small. Whose each setting is: METHOD.md, "The published setting"."""

from __future__ import annotations

from dataclasses import replace

from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.shards import ShardSets
from ubt_utils.profiles.base import Profile
from ubt_utils.profiles.photos import DETAILED
from ubt_utils.ubt.settings import Overfit, Select, Unlearn

EPOCH = 500_000 // 128
# The victim trains as CleanCLIP's paper says, but at ten times its rate, with which the backdoor takes. What
# UBT and the other defenses do at this size is [ours]: their decay spares what the victim's does; the overfit
# training, which is read along its way, keeps one rate, and the others fall from theirs along a cosine.
PAPER = Profile(
    name="paper",
    about="OpenAI's RN50, 500,000 web pairs from shards or CSV, ImageNet, 80 prompts: for GPUs, not run yet",
    model="RN50-quickgelu",  # OpenAI's weights were trained with it; with plain GELU they are another model
    sets=ShardSets(),
    weights="openai",
    pretrain=Recipe(steps=1, lr=1e-5, schedule="constant", decay="matrices"),  # nothing is trained
    finetune=Recipe(steps=5 * EPOCH, lr=1e-5, batch=128, schedule="cosine", warmup=50, decay="matrices"),
    overfit=Overfit(
        Recipe(steps=200, lr=1e-5, batch=128, schedule="constant", decay="matrices", freeze_norm=True)
    ),
    suspect=DETAILED,
    select=Select(top=256),
    unlearn=Unlearn(
        Recipe(steps=EPOCH // 4, lr=1e-5, batch=128, schedule="cosine", decay="matrices", freeze_norm=True),
        hold=0.5,  # as the trials on photos choose
    ),
    baseline=Recipe(steps=1, lr=1e-5, batch=128, schedule="cosine", decay="matrices", freeze_norm=True),
    poison_rate=1_500 / 500_000,
)

PAPER_VIT = replace(
    PAPER, name="paper-vit", about="the same with ViT-B/32; not run yet", model="ViT-B-32-quickgelu"
)
