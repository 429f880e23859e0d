"""Pairs of the published setting: how many of CC3M's shards a subset needs."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path

from tqdm.auto import tqdm

from ubt_utils.data import shards
from ubt_utils.data.listing import FetchError, Item
from ubt_utils.data.shards import ShardSets

# Counts: the card of the hub copy, whose pictures were fetched from the links on 2021-12-22.
LINKS = 3_318_333  # links of the training set, as published in 2018
PAIRS = 2_905_954  # pairs of the hub copy: the links that were alive then
SHARDS = 576  # its training files, cc3m-train-0000.tar to cc3m-train-0575.tar
PER_SHARD = PAIRS / SHARDS  # about 5,045 pairs each
SHARD_BYTES = 465_000_000  # about: shards named alike are 461 to 474 MB on the hub; its listing is exact
ALIVE_TODAY = 2_200_000  # about: links of the 3.3 M that still answer, by reports of those who fetched them


def asked(profile: str, subset: int | None, mirror: Path | None) -> int:
    """How many pairs are asked for: ShardSets' limit unless named. Raises ValueError for a number that is
    none, for more than the hub copy has, and for a profile without pairs to choose from."""
    if subset is None:
        return ShardSets.limit
    if profile != "paper":
        raise ValueError(f"--subset is for the profile paper; {profile} is fetched whole: leave it out")
    if subset < 1:
        raise ValueError(f"--subset {subset} is no number of pairs: name a positive one, such as 500000")
    if mirror is None and subset > PAIRS:
        raise ValueError(f"--subset {subset:,}: the hub copy has {PAIRS:,} pairs, name at most as many")
    return subset


def estimate(subset: int) -> tuple[int, int]:
    """How many of the hub's shards hold about `subset` pairs, and about how many bytes they have."""
    shards = math.ceil(subset / PER_SHARD)
    return shards, shards * SHARD_BYTES


def needed(items: list[Item], subset: int, mirror: Path | None) -> list[Item]:
    """The first shards that hold `subset` pairs: about, by the hub copy's mean; exactly, in a mirror, whose
    shards may be of any size. Raises FetchError where it has fewer, PhotoError where one is truncated."""
    if mirror is None:
        return items[: estimate(subset)[0]]
    folder, found = mirror / items[0].source.folder, 0
    shards.shards(folder)
    for number, item in enumerate(tqdm(items, "count", unit="shard", leave=False), start=1):
        found += _count(folder / item.name)
        if found >= subset:
            return items[:number]
    raise FetchError(
        f"the mirror's shards in {folder} hold {found:,} pairs, {subset:,} are asked for: "
        "name fewer by --subset, or add shards"
    )


def _count(shard: Path) -> int:
    """Pairs in a shard, from its headers alone."""
    try:
        with tarfile.open(shard, "r:") as file:
            return sum(member.name.endswith(f".{shards.CAPTION}") for member in file)
    except tarfile.TarError as error:
        raise FetchError(f"{shard} is no shard ({error}): put another copy in its place") from error
