"""What a defender holds who has found nothing: what the tests of defenses begin with."""

from typing import Any

import torch

from ubt_utils.clip import models
from ubt_utils.data.pairs import Pairs
from ubt_utils.ubt.defense import View

NAME = "ubt-tiny"


def pictures(count: int) -> torch.Tensor:
    """(count, 3, 32, 32) uint8 of noise, the same each time."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)


def view_of(images: torch.Tensor, captions: tuple[str, ...], **known: Any) -> View:
    """Pictures (N, 3, H, W) uint8 and their captions, all outside the pool, none suspicious, no class named;
    known: the models, and what else is held or is otherwise."""
    count, none = len(images), torch.empty(0, dtype=torch.long)
    nothing = {
        "tokens": models.tokenize(NAME, captions),
        "pool": torch.zeros(count, dtype=torch.bool),
        "suspicious": none,
        "compromised": none,
        "suffers": torch.full((count,), -torch.inf),
        "anchors": none,
        "score": lambda name: torch.zeros(count),
        "names": (),
        "prompts": (),
    }
    return View(Pairs(images, captions), **{**nothing, **known})
