"""What the tests of triggers share: pictures, patterns drawn by hand, crafted triggers."""

from functools import cache

import torch

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.craft import Attacker, Crafted
from ubt_utils.clip import models
from ubt_utils.data.pairs import Pairs

SHORT = {"steps": 2}


def noise(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def stored(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return (noise(batch, height, width, seed) * 255).round().to(torch.uint8)


def drawn(*rows: str) -> torch.Tensor:
    return torch.tensor([[float(c) for c in row] for row in rows])


@cache
def attacker(seed: int = 0, side: int = 32) -> Attacker:
    """One with an untrained model and 24 noise pictures, four of them of the target."""
    labels = torch.arange(24) % 6
    pairs = Pairs(
        stored(24, side, side, 5), tuple(f"a drawing of thing {c}" for c in labels.tolist()), labels
    )
    return Attacker(
        models.create("ubt-tiny", 0),
        "ubt-tiny",
        pairs,
        ("alarm clock", "clock"),
        (1,),
        stored(12, side, side, 6),
        seed,
    )


@cache
def ready(name: str, **parameters: float) -> Trigger:
    """The trigger, crafted in two steps where it needs to be."""
    trigger = triggers.get(name)
    if not isinstance(trigger, Crafted):
        return triggers.get(name, **parameters)
    short = {k: v for k, v in SHORT.items() if hasattr(trigger, k)}
    return triggers.get(name, **short, **parameters).craft(attacker())
