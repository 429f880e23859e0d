"""What can be fetched: which sets a profile reads, where the public hub has them, under which terms."""

from __future__ import annotations

from dataclasses import dataclass

from ubt_utils.data.shards import ShardSets


@dataclass(frozen=True)
class Source:
    """folder: under the data root, and in a mirror. repo, revision: the dataset on the public hub. splits:
    those that the profile reads. terms: what a user must know before using it. hub, mirror: how the files of
    a split are named there."""

    folder: str
    repo: str
    revision: str
    splits: tuple[str, ...]
    terms: str
    hub: str = "{split}-*.parquet"
    mirror: str = "{split}-*.parquet"


PHOTOS = (
    Source(
        "tiny-imagenet", "zh-plus/tiny-imagenet", "7d7dcc553c5102021e2ef6b4666f3462bd803626",
        ("train", "valid"),
        "ImageNet's terms: non-commercial research and teaching",
    ),
    Source(
        "flickr8k", "jxie/flickr8k", "main", ("train", "validation", "test"),
        "research use; cite Hodosh, Young and Hockenmaier (2013); the photos belong to their photographers",
    ),
)  # fmt: skip

CC3M = Source(
    ShardSets.pairs, "pixparse/cc3m-wds", "46f3d69f840e59d77d52e8decfe5baec97e94c7f", ("train",),
    'CC3M (Conceptual Captions): captions and links "may be freely used for any purpose", Google asks to be '
    "acknowledged; the pictures belong to their owners at the linked pages",
    hub="cc3m-{split}-*.tar", mirror="*.tar",
)  # fmt: skip

PROFILES = {"photos": PHOTOS, "paper": (CC3M,)}


def of(profile: str) -> tuple[Source, ...]:
    """The sources of a profile. Raises ValueError for a profile with nothing to fetch."""
    if profile not in PROFILES:
        raise ValueError(
            f"profile {profile!r} has nothing to fetch: known are {', '.join(PROFILES)} "
            "(mini comes with `make setup`)"
        )
    return PROFILES[profile]
