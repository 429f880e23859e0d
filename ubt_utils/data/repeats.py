"""How many different pictures a word or caption stands under: harmless repeats stand under few.

CC3M has a caption 798 times, on nearly equal pictures (HanxunH/Detect-CLIP-Backdoor-Samples). Poison is the
other way round: one word under many different pictures.
"""

from __future__ import annotations

import torch
from torch.nn.functional import adaptive_avg_pool2d

from ubt_utils.data.pictures import Images

SIDE = 8  # of the thumbnails that pictures are compared by
NEAR = 6.0  # of 255, that no pixel of them may be off
BATCH = 256


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


def _thumbnails(images: torch.Tensor) -> torch.Tensor:
    return adaptive_avg_pool2d(images.float(), SIDE).flatten(1)
