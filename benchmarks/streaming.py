"""Memory of ranking pairs that come in blocks: the same for ten times as many.

    python benchmarks/streaming.py               # prints the table and records it

The similarities and the 256 best of N made-up pairs of 1,024 dimensions, at 10⁵ and 10⁶ pairs. Blocks are
larger than what the allocator keeps for later, so that what is told is what was needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import peak
import torch
import tyro

from ubt_utils import report
from ubt_utils.kernels.ranking import pair_similarity, top

D, BLOCK, BEST = 1024, 16_384, 256


def stream(pairs: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Blocks of made-up unit embeddings of pictures and captions, read into the same memory one by one."""
    draw, both = torch.Generator().manual_seed(0), torch.empty(2, min(BLOCK, pairs), D)
    for start in range(0, pairs, BLOCK):
        both.normal_(generator=draw)
        both /= both.norm(dim=-1, keepdim=True)
        yield tuple(both[:, : pairs - start])


def given(pairs: int) -> tuple[int]:
    """What `best` is called with."""
    return (pairs,)


def best(pairs: int) -> list[float]:
    """The least of the best similarities: a number to see that something was found."""
    return [top(pair_similarity(stream(pairs)), BEST)[0][-1].item()]


def main(few: int = 10**5, many: int = 10**6) -> None:
    found = {n: peak.in_turn([best], partial(given, n), partial(given, 64))["best"] for n in (few, many)}
    told = {n: {"peak_bytes": side.bytes, "seconds": side.seconds} for n, side in found.items()}
    ratio = found[many].bytes / found[few].bytes
    report.write_benchmark("streaming", {"d": D, "k": BEST, "pairs": told, "memory_ratio": ratio})


if __name__ == "__main__":
    tyro.cli(main)
