"""Profiles: everything that a run needs to know, by name."""

from __future__ import annotations

from ubt_utils.profiles.ablations import ABLATIONS
from ubt_utils.profiles.adaptive import ADAPTIVE
from ubt_utils.profiles.base import Poisoning, Profile
from ubt_utils.profiles.mini import EDGES, KNOWN, MINI, NOISES, PUBLIC, RARE, SCRATCH, TINY
from ubt_utils.profiles.paper import PAPER, PAPER_VIT
from ubt_utils.profiles.photos import FOLDER, PHOTOS, PHOTOS_GPU, PHOTOS_PUBLIC, PHOTOS_RARE, PHOTOS_TINY
from ubt_utils.profiles.tuned import TUNED

__all__ = [
    "ABLATIONS",
    "ADAPTIVE",
    "EDGES",
    "FOLDER",
    "KNOWN",
    "MINI",
    "NOISES",
    "PAPER",
    "PAPER_VIT",
    "PHOTOS",
    "PHOTOS_GPU",
    "PHOTOS_PUBLIC",
    "PHOTOS_RARE",
    "PHOTOS_TINY",
    "PROFILES",
    "PUBLIC",
    "RARE",
    "SCRATCH",
    "TINY",
    "TUNED",
    "Poisoning",
    "Profile",
    "get",
]

PROFILES = {
    profile.name: profile
    for profile in (
        MINI,
        TINY,
        *PUBLIC,
        *RARE,
        KNOWN,
        SCRATCH,
        *NOISES,
        *EDGES,
        *ABLATIONS,
        *ADAPTIVE,
        *TUNED,
        PHOTOS,
        *PHOTOS_PUBLIC,
        *PHOTOS_RARE,
        PHOTOS_GPU,
        PHOTOS_TINY,
        FOLDER,
        PAPER,
        PAPER_VIT,
    )
}


def get(name: str) -> Profile:
    """The profile of that name; ValueError lists the known ones."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
