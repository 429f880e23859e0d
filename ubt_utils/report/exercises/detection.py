"""Exercises of notebook 02: disturbing, the pool, and overfitting."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ubt_utils.core.seeding import generator
from ubt_utils.report.exercises.base import Arguments, Function
from ubt_utils.ubt import disturb
from ubt_utils.ubt import pool as pooling


def _pictures() -> list[Arguments]:
    sizes = ((2, 3, 8, 8), (1, 3, 16, 16), (3, 3, 24, 24))
    return [(torch.rand(size, generator=generator("pictures", size)),) for size in sizes]


def _zoomed(images: Tensor, mode: str = "bilinear", corners: bool | None = None) -> Tensor:
    edge = images.shape[-1] // 8
    middle = images[..., edge:-edge, edge:-edge]
    return F.interpolate(middle, images.shape[-2:], mode=mode, align_corners=corners)


def _corner(images: Tensor) -> Tensor:
    edge = images.shape[-1] // 8
    return F.interpolate(images[..., edge:, edge:], images.shape[-2:], mode="bilinear")


# 02.3, halves


def _pools() -> list[Arguments]:
    pools = [torch.arange(n) % 3 > 0 for n in (9, 20, 34)]
    return [(pool, _shuffled(pool, n)) for n, pool in enumerate(pools)]


def _shuffled(pool: Tensor, key: int) -> Tensor:
    inside = pool.nonzero().flatten()
    return inside[torch.randperm(len(inside), generator=generator("halves", key))]


def _halves(pool: Tensor, order: Tensor, first: int | None = None) -> Tensor:
    """first: how many are in half 0; None: half of them, rounded down."""
    many, half = len(order) // 2 if first is None else first, torch.full((len(pool),), -1)
    half[order[:many]], half[order[many:]] = 0, 1
    return half


# 02.4, read crosswise


def _halved() -> list[Arguments]:
    draws = [generator("crossed", n) for n in (12, 25, 40)]
    return [
        (
            torch.randint(-1, 2, (n,), generator=draw),
            torch.rand(n, generator=draw),
            torch.rand(n, generator=draw),
        )
        for n, draw in zip((12, 25, 40), draws, strict=True)
    ]


def _crossed(half: Tensor, under_0: Tensor, under_1: Tensor) -> Tensor:
    s1 = torch.where(half == 0, under_1, under_0)
    return s1.masked_fill(half < 0, -torch.inf)


# 02.5, what the sources describe


def _cosines() -> list[Arguments]:
    return [
        (2 * torch.rand(n, generator=generator("cosines", n)) - 1, torch.tensor(0.3 * n)) for n in (6, 8, 11)
    ]


# 02.8, suspicion


def _drops() -> list[Arguments]:
    found = []
    for n in (10, 16, 30):
        drops = torch.randn(3, n, generator=generator("drops", n)) * torch.tensor([[1.0], [0.2], [5.0]])
        drops[:, ::4] = -torch.inf
        found.append((drops,))
    return found


def _known(drops: Tensor) -> Tensor:
    return drops[:, drops.isfinite().all(0)]


def _filled(drops: Tensor, told: Tensor, rest: float | None = None) -> Tensor:
    """rest: what the others get; None: one less than the smallest."""
    suffers = torch.full((drops.shape[1],), told.min().item() - 1 if rest is None else rest)
    suffers[drops.isfinite().all(0)] = told
    return suffers


def _standard(drops: Tensor, unbiased: bool = True) -> Tensor:
    there = _known(drops)
    return (there - there.mean(1, keepdim=True)) / there.std(1, keepdim=True, unbiased=unbiased)


def _by_row(drops: Tensor) -> Tensor:
    there = _standard(drops)
    rest = (there.amin(1) - 1).amax().item()
    return _filled(drops, there.amax(0), rest)


TASKS: dict[str, Function] = {
    "02.1": Function(
        disturb.row_means,
        _pictures,
        {
            "columns": disturb.column_means,
            "clamped": lambda x: disturb.row_means(x).clamp(0, 1),
            "mean lost": lambda x: x - x.mean(-1, keepdim=True),
            "all gray": lambda x: x - x.mean(-1, keepdim=True) + x.mean((-1, -2, -3), keepdim=True),
        },
    ),
    "02.2": Function(
        disturb.cropped,
        _pictures,
        {
            "nearest": lambda x: _zoomed(x, "nearest"),
            "aligned": lambda x: _zoomed(x, corners=True),
            "one corner": _corner,
            "not enlarged": lambda x: x[
                ..., x.shape[-1] // 8 : -(x.shape[-1] // 8), x.shape[-1] // 8 : -(x.shape[-1] // 8)
            ],
        },
    ),
    "02.3": Function(
        _halves,
        _pools,
        {
            "in order": lambda pool, order: _halves(pool, order.sort().values),
            "one more": lambda pool, order: _halves(pool, order, (len(order) + 1) // 2),
            "outside too": lambda pool, order: _halves(pool, order).clamp(min=0),
        },
    ),
    "02.4": Function(
        _crossed,
        _halved,
        {
            "own half": lambda half, a, b: _crossed(half, b, a),
            "outside": lambda half, a, b: torch.where(half == 0, b, a),
            "mean of both": lambda half, a, b: ((a + b) / 2).masked_fill(half < 0, -torch.inf),
        },
    ),
    "02.5": Function(
        lambda cosines, retain: retain + (cosines - 1).square().mean(),
        _cosines,
        {
            "pushed apart": lambda cosines, retain: retain + cosines.square().mean(),
            "sum": lambda cosines, retain: retain + (cosines - 1).square().sum(),
            "square of the mean": lambda cosines, retain: retain + (cosines.mean() - 1).square(),
            "not squared": lambda cosines, retain: retain + (1 - cosines).mean(),
            "no retain": lambda cosines, retain: (cosines - 1).square().mean(),
        },
    ),
    "02.8": Function(
        lambda drops: pooling.suspicion(drops, []),
        _drops,
        {
            "raw": lambda drops: _filled(drops, _known(drops).amax(0)),
            "mean": lambda drops: _filled(drops, _standard(drops).mean(0)),
            "population": lambda drops: _filled(drops, _standard(drops, False).amax(0)),
            "unknown": lambda drops: _standard(drops).amax(0),
            "minus infinity": lambda drops: _filled(drops, _standard(drops).amax(0), -torch.inf),
            "row minima": _by_row,
            "not centered": lambda drops: _filled(
                drops, (_known(drops) / _known(drops).std(1, keepdim=True)).amax(0)
            ),
        },
    ),
}
