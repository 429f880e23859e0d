"""Photographs: a subset for CPUs, all of them for a GPU, a few for tests; and those of a reader's own."""

from __future__ import annotations

from dataclasses import replace

from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.photo_folder import FolderSets
from ubt_utils.data.photos import PhotoSets
from ubt_utils.profiles.base import Profile
from ubt_utils.profiles.chosen import ON_PHOTOS
from ubt_utils.profiles.mini import OTHERS, public, rare
from ubt_utils.profiles.tuned import settled
from ubt_utils.ubt.disturb import COVERS
from ubt_utils.ubt.settings import Overfit, Scatter, Select, Suspect, Trace, Unlearn

# A photo is finer than a drawing, and shows more than its word says.
DETAILED = Suspect(family=(*Suspect().family, *COVERS), trace=Trace(), scatter=Scatter(), others_first=True)
LOCKED = Recipe(steps=800, lr=2e-3, batch=256, weight_decay=0.3)  # the text tower to a locked image tower

PHOTOS = settled(
    Profile(
        name="photos",
        about="Tiny-ImageNet and Flickr8k at 96 px, a really pretrained image tower whose text tower knows "
        "half of the classes; a subset for two CPU cores",
        model="ubt-photos",
        weights="photos-0",  # ubt_utils/clip/public/photos-0.safetensors, made by the recipe below
        sets=PhotoSets(),
        tower="imagenet",
        locked=5,  # of seven: what two cores have time for
        pretrain=LOCKED,
        finetune=Recipe(steps=400, lr=8e-4, batch=128, freeze_norm=True),  # 5 passes over 10,800 pairs
        overfit=Overfit(Recipe(steps=16, lr=5e-4, batch=128, schedule="constant", freeze_norm=True), reads=2),
        suspect=DETAILED,
        select=Select(),
        unlearn=Unlearn(Recipe(steps=30, lr=3e-4, batch=128, freeze_norm=True)),
        baseline=Recipe(steps=1, lr=3e-4, batch=128, freeze_norm=True),
        triggers={  # mini's, but for a fainter blend and a smaller patch; published ones: notebook 06
            "badclip": {"size": 0.12},  # of 0.25, as on drawings, f0 itself answers to it: no backdoor
            "badnets": {"size": 0.29},
            "blended": {"alpha": 0.25},
            "blended_stripes": {"alpha": 0.12, "stripes": 48},
            "label_consistent": {"size": 0.45},
            "text_on_image": {"size": 0.35},
            "wanet": {"grid": 48, "warp": 32.0},
        },
    ),
    ON_PHOTOS,
)

PHOTOS_PUBLIC = tuple(public(PHOTOS, seed) for seed in OTHERS)
PHOTOS_RARE = tuple(rare(profile) for profile in (PHOTOS, *PHOTOS_PUBLIC))

PHOTOS_GPU = replace(
    PHOTOS,
    name="photos-gpu",
    about="all of Tiny-ImageNet and Flickr8k, the whole image tower unlocked: for a GPU",
    weights="",
    sets=replace(PHOTOS.sets, public=200, wild=200, valid=50, tested=50, wild_captions=5, probe=100),
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
    weights="",
    sets=FolderSets(least=800),
)

PHOTOS_TINY = replace(
    PHOTOS,
    name="photos-tiny",
    about="photos shrunk to seconds, for tests: plumbing, not science, so the gate is open",
    weights="",
    model="ubt-photos-tiny",
    sets=PhotoSets(
        public=6,
        wild=6,
        valid=1,
        tested=0,
        wild_captions=2,
        size=32,
        target="banana",
        classes=8,
        photos=3,
        probe=2,
    ),
    pretrain=Recipe(steps=4, lr=1e-3, batch=32),
    finetune=Recipe(steps=4, lr=5e-4, batch=16, freeze_norm=True),
    overfit=Overfit(Recipe(steps=2, lr=5e-4, batch=8, schedule="constant", freeze_norm=True), reads=2),
    suspect=Suspect(
        pool=0.5,
        trace=Trace(moved=-2.0, least=2, pictures=8, few=2, words=2, others=8),
        scatter=Scatter(others=8, nearest=16),
        others_first=True,
    ),
    select=Select(
        top=8, voters=(16,), least=2, lost=-1.0, lost_of_many=-1.0
    ),  # plumbing: any word is believed
    unlearn=Unlearn(Recipe(steps=3, lr=3e-4, batch=16, freeze_norm=True), hold=0.5),  # as photos hold
    baseline=Recipe(steps=1, lr=3e-4, batch=16, freeze_norm=True),
    poison_rate=0.1,
    gate=0.0,
    triggers={**PHOTOS.triggers, **{name: {"steps": 3} for name in ("badclip", "issba", "trojanvqa")}},
)
