"""What is told before and after a fetch: files, sizes, room, terms, dead links, what is left to the user."""

from __future__ import annotations

import math
from itertools import groupby

from ubt_utils.data import pair_shards, room
from ubt_utils.data.listing import Item
from ubt_utils.data.pair_shards import ALIVE_TODAY, LINKS, PAIRS, PER_SHARD, SHARDS
from ubt_utils.data.shards import PHOTOS, ShardSets
from ubt_utils.data.sources import CC3M

SHOWN = 8  # files of a source that are told one by one
CLASSES, VALIDATION = 1_000, 50_000  # ImageNet's classes and validation photos

# img2dataset's own defaults respect the header "noai"; its shards have one tar of 10,000 links each.
OWN_FETCH = """\
  To fetch from the links yourself: get the training links (a TSV of about 500 MB) from Google's page of
  Conceptual Captions, `pip install img2dataset`, then
    (printf 'caption\\turl\\n'; head -n {links} Train_GCC-training.tsv) > links.tsv
    img2dataset --url_list links.tsv --input_format tsv --url_col url --caption_col caption \\
      --output_format webdataset --image_size 256 --resize_mode keep_ratio --resize_only_if_bigger True \\
      --output_folder {folder}
  The shards that it writes are read as they are."""


def as_text(items: list[Item]) -> str:
    """The plan as lines: what is there, what will come, under which terms, and whether there is room."""
    lines = []
    for source, group in groupby(items, key=lambda item: item.source):
        lines += [f"{source.folder}: {source.terms}", *_shortened([_line(item) for item in group])]
    missing = [item for item in items if not item.path.exists()]
    files = f"{len(missing)} of {len(items)} files"
    return "\n".join([*lines, _to_fetch(files, sum(item.size for item in missing))])


def without_hub(subset: int, reason: Exception) -> str:
    """What can be said of the pairs where the hub cannot be asked."""
    shards, size = pair_shards.estimate(subset)
    first, last = (CC3M.hub.format(split="train").replace("*", f"{i:04}") for i in (0, shards - 1))
    lines = (
        f"{CC3M.folder}: {CC3M.terms}",
        f"  {first} to {last}: about, for exact sizes could not be asked ({reason})",
        _to_fetch(f"about {shards} of {SHARDS} files", size),
    )
    return "\n".join(lines)


def of_pairs(subset: int) -> list[str]:
    """Lines on the pairs: how many to expect, how many links are dead, how to fetch from links oneself."""
    links = math.ceil(subset * LINKS / ALIVE_TODAY)
    expected = pair_shards.estimate(subset)[0] * PER_SHARD
    store = room.amount(expected * 3 * ShardSets.size**2)
    return [
        f"pairs: {subset:,} asked for; whole shards come, of about {PER_SHARD:,.0f} in the hub copy: about "
        f"{expected:,.0f}; decoded once, they take about {store} more in the folder of the runs",
        f"dead links: none in the shards. Of {LINKS:,} links (2018) the hub copy has {PAIRS:,}: "
        f"about {1 - PAIRS / LINKS:.0%} were dead by 2021. Today about {1 - ALIVE_TODAY / LINKS:.0%} are: "
        + (f"{subset:,} pairs take about {links:,} links" if links <= LINKS else "too few for this subset"),
        OWN_FETCH.format(links=min(links, LINKS), folder=paths.data() / CC3M.folder),
    ]


def to_do() -> list[str]:
    """Lines on what the profile paper needs besides pairs: ImageNet's photos, and the weights of f0."""
    return [
        _imagenet(),
        "OpenAI's weights: open_clip fetches them on first use: RN50 about 410 MB, ViT-B/32 about 605 MB, as "
        "the hub has them (OpenAI's own half-precision files: 256 and 354 MB)",
    ]


def _imagenet() -> str:
    """Are the test's photos there? They are not fetched: each user agrees to ImageNet's terms on its site."""
    place = paths.data() / ShardSets.test
    folders = [p for p in place.iterdir() if p.is_dir()] if place.is_dir() else []
    count = sum(path.suffix.lower() in PHOTOS for folder in folders for path in folder.iterdir())
    found = f"{len(folders):,} of {CLASSES:,} class folders, {count:,} of {VALIDATION:,} photos in {place}"
    if (len(folders), count) == (CLASSES, VALIDATION):
        return f"ImageNet's validation photos: there, {found}"
    state = "incomplete" if folders else "missing"
    return (
        f"ImageNet's validation photos: {state}, {found}. They are not fetched: its terms (non-commercial "
        "research and teaching) are agreed to with a login of your own on its site. Put them there, one "
        "folder per class, named by WordNet ids (n01440764 …), whose order is that of the classes"
    )


def _line(item: Item) -> str:
    return f"  {item.name}  {room.amount(item.size)}  {'there' if item.path.exists() else 'to fetch'}"


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= SHOWN:
        return lines
    return [*lines[: SHOWN - 2], f"  … {len(lines) - SHOWN + 1} more", lines[-1]]


def _to_fetch(files: str, size: int) -> str:
    free = room.free(paths.data())
    left = f"{room.amount(free)} free there" + (", TOO LITTLE" if free < room.SPARE * size else "")
    return f"to fetch: {files}, {room.amount(size)}, into {paths.data()}; {left}"
