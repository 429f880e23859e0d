"""What lies in which part of profile `photos`, and how plain its triggers are beside the published ones.

    UBT_DATA=… python benchmarks/photo_parts.py    # half a minute; prints and records

Parts by the bytes of their photos: which of them the image tower of f0 may have been trained on, and which
are in another part, too. PSNR in dB on some test photos, at the profile's strength and at the published one;
of a trigger that must be made first there is none before that.
"""

from __future__ import annotations

from typing import Any

import torch
import tyro

from ubt_utils import profiles
from ubt_utils.attacks import triggers, visibility
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.attacks.craft import Crafted
from ubt_utils.core import records
from ubt_utils.study.commands import ON_PHOTO


def parts(profiles_of: tuple[profiles.Profile, ...]) -> dict[str, Any]:
    """Per profile what `PhotoSets.seen` says of its public model."""
    return {one.name: one.sets.seen(one.f0) for one in profiles_of}


def psnr(trigger: Trigger, images: torch.Tensor) -> float | None:
    """The mean over pictures (B, 3, H, W) uint8 that the trigger changes, in dB."""
    if isinstance(trigger, Crafted):
        return None
    found = visibility.psnr(images.float() / 255, stamp_bytes(trigger, images).float() / 255)
    return found[found.isfinite()].mean().item()


def strengths(profile: profiles.Profile, images: torch.Tensor) -> dict[str, Any]:
    """Per attack of the round its strength and PSNR, and those of the published trigger at this size."""
    found = {}
    for name in ON_PHOTO:
        own, published = profile.trigger(name), triggers.get(name)
        found[name] = {
            "strength": own.strength,
            "own": getattr(own, own.strength),
            "published": getattr(published, own.strength),
            "psnr": psnr(own, images),
            "psnr_published": psnr(published, images),
        }
    return found


def main(profile: str = "photos", photos: int = 200) -> None:
    """photos: how many of the test PSNR is measured on."""
    setting = profiles.get(profile)
    others = [one for one in profiles.PHOTOS_PUBLIC if one.sets == setting.sets]
    images = setting.sets.zero_shot().images
    images = images[:: max(1, len(images) // photos)][:photos]  # of all classes
    records.write_benchmark("photo_parts", {
        "profile": profile, "parts": parts((setting, *others)), "triggers": strengths(setting, images),
        "photos": len(images),
    })  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
