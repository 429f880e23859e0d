"""Harmless repeats: one picture and its caption many times over, and how to tell them from poison.

CC3M has a caption 798 times, on nearly equal pictures (HanxunH/Detect-CLIP-Backdoor-Samples). Poison is the
other way round: one word under many different pictures.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.functional import adaptive_avg_pool2d

from ubt_utils.core.seeding import generator
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Images

SIDE = 8  # of the thumbnails that pictures are compared by
NEAR = 6.0  # of 255, that no pixel of them may be off
BATCH = 256
OFF = 2  # of 255, how much lighter or darker a repeat is at most


def distinct(images: Images, rows: torch.Tensor) -> int:
    """How many different pictures there are among `rows` (B,); nearly equal ones count as one."""
    if not len(rows):
        return 0
    left = torch.cat([_thumbnails(images[part]) for part in rows.split(BATCH)])
    count = 0
    while len(left):
        left = left[(left - left[0]).abs().amax(1) > NEAR]
        count += 1
    return count


def repeat_one(pairs: Pairs, rate: float, may_be: torch.Tensor, *key: object) -> Pairs:
    """Put a pair in the place of others, drawn at random, until it makes up a fraction `rate` of all; each
    picture a little lighter or darker, and all in memory. It is one of those that `may_be` (N,) bool
    allows."""
    if not 0 <= rate < 1:
        raise ValueError(f"the part of repeats must be in [0, 1), got {rate}")
    if not rate:
        return pairs
    draw = generator(*key, "repeats")
    order = torch.randperm(len(pairs), generator=draw)
    one = int(order[may_be[order]][0])
    others = order[order != one][: round(rate * len(pairs)) - 1]
    back = torch.arange(len(pairs)).index_fill(0, others, one)
    repeated, images = pairs.take(back), pairs.images[back]
    shift = torch.randint(-OFF, OFF + 1, (len(others), 1, 1, 1), generator=draw)
    images[others] = (images[others].int() + shift).clamp(0, 255).to(torch.uint8)
    return replace(repeated, images=images)


def _thumbnails(images: torch.Tensor) -> torch.Tensor:
    return adaptive_avg_pool2d(images.float(), SIDE).flatten(1)
