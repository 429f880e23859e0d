"""Fetch a profile's data: from the public hub, or from a mirror folder laid out the same way.

A file gets its final name only when it is whole and its SHA-256 is right; what was interrupted
goes on where it stopped; what is there already is checked and left alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from tqdm.auto import tqdm

from ubt_utils.core.checksum import sha256_of
from ubt_utils.data import fetch_notes, pair_shards, room, sources
from ubt_utils.data.listing import FetchError, HubAway, Item, from_hub, from_mirror

SUMS = "SHA256SUMS"


def plan(profile: str = "photos", subset: int | None = None, mirror: Path | None = None) -> list[Item]:
    """Every file to have, with size and checksum. subset: pairs of the profile paper.

    Raises ValueError for an unknown profile or subset, FetchError if the source cannot be asked.
    """
    wanted, subset = sources.of(profile), pair_shards.asked(profile, subset, mirror)
    items = [item for s in wanted for item in (from_mirror(s, mirror) if mirror else from_hub(s))]
    return pair_shards.needed(items, subset, mirror) if profile == "paper" else items


def fetch(items: list[Item]) -> list[Path]:
    """Get all files that are not there yet; returns those that were fetched.

    Raises FetchError when the network is not there, a checksum differs or there is no room.
    """
    missing = [item for item in tqdm(items, "check", unit="file", leave=False) if not _is_there(item)]
    _check_room(missing)
    for item in (bar := tqdm(missing, "fetch", unit="file")):
        bar.set_postfix_str(f"{item.source.folder}/{item.name}")
        _fetch(item)
    _write_sums(items)
    return [item.path for item in missing]


def told(profile: str = "photos", subset: int | None = None, mirror: Path | None = None) -> str:
    """What a fetch would do, as lines; nothing is written. Raises as `plan`, but for the profile paper
    an estimate stands in where the hub cannot be asked."""
    try:
        lines = [fetch_notes.as_text(plan(profile, subset, mirror))]
    except HubAway as error:
        if profile != "paper":
            raise
        lines = [fetch_notes.without_hub(pair_shards.asked(profile, subset, mirror), error)]
    if profile == "paper":
        lines += fetch_notes.of_pairs(pair_shards.asked(profile, subset, mirror))
    return "\n".join(lines + to_do(profile))


def to_do(profile: str) -> list[str]:
    """Lines on what a profile needs besides what is fetched; none for photos."""
    return fetch_notes.to_do() if profile == "paper" else []


def _fetch(item: Item) -> None:
    item.path.parent.mkdir(parents=True, exist_ok=True)
    part = item.path.with_name(item.name + ".part")
    item.get(part)
    if (found := sha256_of(part)) != item.sha256:
        part.unlink()
        raise FetchError(
            f"{item.source.folder}/{item.name} came with SHA-256 {found[:12]}…, "
            f"expected {item.sha256[:12]}…: nothing was kept; run it again"
        )
    os.replace(part, item.path)


def _is_there(item: Item) -> bool:
    """Is the file there and right? FetchError when something else has its name."""
    if not item.path.exists():
        return False
    if sha256_of(item.path) != item.sha256:
        raise FetchError(
            f"{item.path} is not the file of this source (its checksum differs): move it away, "
            "or name another data folder in UBT_DATA"
        )
    return True


def _check_room(missing: list[Item]) -> None:
    place, need = paths.data(), room.SPARE * sum(item.size for item in missing)
    if need > (free := room.free(place)):
        raise FetchError(
            f"{room.amount(need)} are needed under {place}, {room.amount(free)} are free: make room, "
            "or name another data folder in UBT_DATA"
        )


def _write_sums(items: list[Item]) -> None:
    """Checksums as sha256sum reads them; those of other files that an earlier fetch left there are kept."""
    for folder in {item.path.parent for item in items}:
        place = folder / SUMS
        old = place.read_text("utf-8").splitlines() if place.exists() else []
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in old)}
        sums = {name: digest for name, digest in sums.items() if (folder / name).is_file()}
        sums |= {item.name: item.sha256 for item in items if item.path.parent == folder}
        place.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="utf-8")
