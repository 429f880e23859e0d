"""The image towers of the published setting in the forms that a device may like: which of them pays?

    python benchmarks/encoders.py                # prints the table and records it
    python benchmarks/encoders.py --pictures 4 --turns 1 --models RN50-quickgelu

Forward passes over the same normalized pictures of 224 px, forms taking turns, median times: as open_clip
makes the tower; with convolutions laid out by pixel (channels_last), which is what the kit does; that in
bf16; and that compiled. Random weights; "apart" is the largest distance of unit embeddings from the plain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import tyro

from ubt_utils.clip import models
from ubt_utils.core import device, records
from ubt_utils.core.seeding import generator

MODELS = ("RN50-quickgelu", "ViT-B-32-quickgelu")
SIDE = 224
Form = Callable[[], torch.Tensor]


def forms(name: str, pictures: int) -> dict[str, Form]:
    """Unit embeddings of the same pictures, once per form."""
    where, images = device.pick(), torch.randn(pictures, 3, SIDE, SIDE, generator=generator("pictures"))
    plain = models.create(name, 0).eval().to(memory_format=torch.contiguous_format)
    kit, compiled = models.create(name, 0).eval(), torch.compile(models.create(name, 0).eval().encode_image)
    given, laid = images.to(where), images.to(where, memory_format=torch.channels_last)

    def half() -> torch.Tensor:
        with torch.autocast(where.type, torch.bfloat16):
            return kit.encode_image(laid)

    return {
        "plain": lambda: plain.encode_image(given),
        "channels_last": lambda: kit.encode_image(laid),
        "bf16": half,
        "compiled": lambda: compiled(laid),
    }


@torch.inference_mode()
def measured(name: str, pictures: int, turns: int) -> dict[str, dict[str, float]]:
    """Per form: pictures a second, how many times the plain form's, and how far its embeddings are apart."""
    ways, seconds, found = forms(name, pictures), {}, {}
    for turn in range(-2, turns):  # two turns warm up
        for form, work in ways.items():
            start = time.perf_counter()
            found[form] = F.normalize(work().float(), dim=-1)
            if device.pick().type == "cuda":
                torch.cuda.synchronize()
            if turn >= 0:
                seconds.setdefault(form, []).append(time.perf_counter() - start)
    middle = {form: statistics.median(times) for form, times in seconds.items()}
    return {
        form: {
            "pictures_per_second": pictures / spent,
            "ratio": middle["plain"] / spent,
            "apart": (found[form] - found["plain"]).norm(dim=1).max().item(),
        }
        for form, spent in middle.items()
    }


def main(pictures: int = 32, turns: int = 7, models: tuple[str, ...] = MODELS) -> None:
    table = {name: measured(name, pictures, turns) for name in models}
    records.write_benchmark("encoders", {"side": SIDE, "pictures": pictures, "turns": turns, "table": table})


if __name__ == "__main__":
    tyro.cli(main)
