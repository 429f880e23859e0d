"""The blockwise contrastive loss against open_clip's: peak memory and time of value and gradient, one run.

    python benchmarks/contrastive.py             # prints the table and records it
    python benchmarks/contrastive.py --batch 4096
    python benchmarks/contrastive.py --batch 32768 --alone 65536    # on a GPU

B random unit pairs of 512 dimensions, logit scale 100, single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import open_clip
import peak
import torch
import tyro

from ubt_utils.core import records
from ubt_utils.kernels.contrastive import blockwise_clip_loss

D = 512
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _learn(loss: Loss, images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> list[torch.Tensor]:
    given = [x.requires_grad_() for x in (images, texts, scale)]
    value = loss(*given)
    return [value.detach(), *torch.autograd.grad(value, given)]


def blockwise(*pairs: torch.Tensor) -> list[torch.Tensor]:
    return _learn(blockwise_clip_loss, *pairs)


def whole(*pairs: torch.Tensor) -> list[torch.Tensor]:
    return _learn(open_clip.ClipLoss(), *pairs)


def pairs(batch: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    images, texts = torch.nn.functional.normalize(torch.randn(2, batch, D, generator=draw), dim=-1)
    return images.clone(), texts.clone(), torch.tensor(100.0)


def main(batch: int = 8192, alone: int = 0) -> None:
    """alone: a further batch, for the blockwise loss only, where the other one does not fit."""
    sides = peak.in_turn((blockwise, whole), partial(pairs, batch), partial(pairs, 64))
    names = ("value", "images", "texts", "scale")
    apart = {
        name: (one - other).abs().max().item()
        for name, one, other in zip(names, *(side.result for side in sides.values()), strict=True)
    }
    entry = {"batch": batch, "d": D, **peak.compared(sides), "apart": apart}
    if alone:
        only = peak.in_turn((blockwise,), partial(pairs, alone), partial(pairs, 64))["blockwise"]
        entry["alone"] = {"batch": alone, "seconds": only.seconds, "peak_bytes": only.bytes}
    records.write_benchmark("contrastive", entry)


if __name__ == "__main__":
    tyro.cli(main)
