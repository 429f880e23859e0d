"""Photographs: a subset for CPUs, all of them for a GPU, a few for tests; and those of a reader's own."""

from __future__ import annotations

from dataclasses import replace

from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.photo_folder import FolderSets
from ubt_utils.data.photos import PhotoSets
from ubt_utils.profiles.base import Profile
from ubt_utils.ubt.settings import Overfit, Select, Suspect, Unlearn

LOCKED = Recipe(steps=1400, lr=2e-3, batch=256, weight_decay=0.3)  # the text tower to a locked image tower

PHOTOS = Profile(
    name="photos",
    about="Tiny-ImageNet and Flickr8k at 96 px, a really pretrained image tower; a subset for two CPU cores",
    model="ubt-photos",
    sets=PhotoSets(),
    tower="imagenet",
    locked=2,
    pretrain=LOCKED,
    finetune=Recipe(steps=170, lr=8e-4, batch=128, freeze_norm=True),
    overfit=Overfit(Recipe(steps=20, lr=5e-4, batch=128, schedule="constant", freeze_norm=True), reads=2),
    select=Select(),
    unlearn=Unlearn(Recipe(steps=40, lr=3e-4, batch=128, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=3e-4, batch=128, freeze_norm=True),
    triggers={"badnets": {"size": 0.29}, "blended": {"alpha": 0.25}},
)

PHOTOS_GPU = replace(
    PHOTOS,
    name="photos-gpu",
    about="all of Tiny-ImageNet and Flickr8k, the whole image tower unlocked: for a GPU",
    sets=replace(PHOTOS.sets, public=250, wild=249, wild_captions=5, probe=100),
    locked=0,
    # LiT trains with large batches: as many pairs as 2,000 steps of 256 see, so many that the loss goes by
    # blocks [ours]; never run.
    pretrain=replace(LOCKED, steps=250, batch=2048),
    finetune=replace(PHOTOS.finetune, steps=2000),
)

# A word is believed with `Select.least` carriers, 8; at 1 % of poison these are the pairs that they take.
FOLDER = replace(
    PHOTOS,
    name="folder",
    family="folder",
    about="any folder of photos, one inside it for each class: named in UBT_FOLDER; settings as in photos",
    sets=FolderSets(least=800),
)

PHOTOS_TINY = replace(
    PHOTOS,
    name="photos-tiny",
    about="photos shrunk to seconds, for tests: plumbing, not science, so the gate is open",
    model="ubt-photos-tiny",
    sets=PhotoSets(public=6, wild=6, classes=8, photos=3, size=32, probe=2),
    pretrain=Recipe(steps=4, lr=1e-3, batch=32),
    finetune=Recipe(steps=4, lr=5e-4, batch=16, freeze_norm=True),
    overfit=Overfit(Recipe(steps=2, lr=5e-4, batch=8, schedule="constant", freeze_norm=True), reads=2),
    suspect=Suspect(pool=0.5),
    select=Select(
        top=8, voters=(16,), least=2, lost=-1.0, lost_of_many=-1.0
    ),  # plumbing: any word is believed
    unlearn=Unlearn(Recipe(steps=3, lr=3e-4, batch=16, freeze_norm=True)),
    baseline=Recipe(steps=1, lr=3e-4, batch=16, freeze_norm=True),
    poison_rate=0.1,
    gate=0.0,
    triggers={**PHOTOS.triggers, **{name: {"steps": 3} for name in ("badclip", "issba", "trojanvqa")}},
)
