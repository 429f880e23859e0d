"""Token occlusion of many captions at once against one forward pass per removed token, one run.

    python benchmarks/occlusion.py               # prints the table and records it
    python benchmarks/occlusion.py --captions 100

The text tower is that of ViT-B/32 (random weights, context 77); captions are prompts with one to four words,
some of them alike, as templates make them. The reference asks the tower as a user would: a caption, then the
caption without its first word, and so on, one at a time.
"""

from __future__ import annotations

import time
from functools import partial

import open_clip
import torch
import torch.nn.functional as F
import tyro
from tqdm.auto import tqdm

from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.core.seeding import generator
from ubt_utils.data.captions import OPENAI_TEMPLATES
from ubt_utils.kernels.occlusion import occlusion, without_each

MODEL = "ViT-B-32"
WORDS = "clock banana ship fox castle guitar red old small wooden bright street garden kitchen".split()


def drawn(count: int) -> list[str]:
    draw = generator("captions")

    def pick(options: list[str]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=draw))]

    lengths = torch.randint(1, 5, (count,), generator=draw).tolist()
    return [pick(list(OPENAI_TEMPLATES)).format(" ".join(pick(WORDS) for _ in range(n))) for n in lengths]


@torch.no_grad()
def one_at_a_time(model: torch.nn.Module, tokens: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The reference."""
    drop = torch.zeros(tokens.shape)
    for i in tqdm(range(len(tokens)), "one at a time", unit="caption"):
        whole = images[i] @ F.normalize(model.encode_text(tokens[i : i + 1]), dim=-1)[0]
        short, _, positions = without_each(tokens[i : i + 1])
        for caption, position in zip(short, positions.tolist(), strict=True):
            drop[i, position] = whole - images[i] @ F.normalize(model.encode_text(caption[None]), dim=-1)[0]
    return drop


def main(captions: int = 1000) -> None:
    model = open_clip.create_model(MODEL).eval()
    tokens = open_clip.get_tokenizer(MODEL)(drawn(captions))
    images = F.normalize(torch.randn(captions, 512, generator=generator("images")), dim=1)
    seconds, found = {}, {}
    for name, work in (
        ("at_once", lambda: occlusion(partial(models.embed_without_each, model), tokens, images)),
        ("one_at_a_time", lambda: one_at_a_time(model, tokens, images)),
    ):
        start = time.perf_counter()
        found[name] = work()
        seconds[name] = time.perf_counter() - start
    apart = (found["at_once"] - found["one_at_a_time"]).abs().max().item()
    asked = {
        "model": MODEL,
        "captions": captions,
        "removed": len(without_each(tokens)[0]),
        "seconds": seconds,
    }
    ratio = seconds["one_at_a_time"] / seconds["at_once"]
    records.write_benchmark("occlusion", asked | {"ratio": ratio, "apart": apart})


if __name__ == "__main__":
    tyro.cli(main)
