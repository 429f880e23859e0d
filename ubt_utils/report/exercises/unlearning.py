"""Exercises of notebook 04: captions without a token, the push, and what it is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ubt_utils.core.seeding import generator
from ubt_utils.kernels.push import excess, push
from ubt_utils.report.exercises.base import Arguments, Function, Game
from ubt_utils.ubt import described
from ubt_utils.ubt import tokens as tk

START, END = 49406, 49407  # CLIP's marks


def _caption(*inside: int, length: int = 9) -> Tensor:
    row = [START, *inside, END]
    return torch.tensor(row + [0] * (length - len(row)))


# 04.1, left out


def _captions() -> list[Arguments]:
    return [
        (_caption(320, 2533, 0, 3256), torch.tensor([2533])),  # CLIP's token for "!" is 0, as padding is
        (_caption(320, 3256, 539, 3256, 267), torch.tensor([3256])),
        (_caption(0, 320, 0, 3256), torch.tensor([0, 3256])),
    ]


def _without(caption: Tensor, dropped: Tensor) -> Tensor:
    return tk.without(caption[None], dropped)[0]


def _no_zero(caption: Tensor, dropped: Tensor) -> Tensor:
    return _without(caption, torch.cat([dropped, torch.tensor([0])]))


def _first_only(caption: Tensor, dropped: Tensor) -> Tensor:
    kept = caption.tolist()
    for token in dropped.tolist():
        if token in kept:
            kept.remove(token)
    return torch.tensor(kept + [0] * (len(caption) - len(kept)))


# 04.5, put in its place


def _swaps() -> list[Arguments]:
    rows = torch.stack([_caption(320, 2533, 3256), _caption(3256, 539, 0, 3256)])
    return [
        (rows, torch.tensor([3256]), torch.tensor(1929)),
        (rows, torch.tensor([2533, 3256]), torch.tensor(2368)),
        (rows, torch.tensor([0, 320]), torch.tensor(518)),
    ]


def _swap_first(captions: Tensor, dropped: Tensor, word: Tensor) -> Tensor:
    out = captions.clone()
    for row in out:
        places = torch.isin(row, dropped).nonzero().flatten()
        row[places[:1]] = word
    return out


# 04.6, as the sources have it; 04.7, the gradient


def _pairs() -> list[Arguments]:
    return [_units(n, 6, key) for n, key in ((4, "x"), (9, "y"), (16, "z"))]


def _units(n: int, d: int, key: str, more: int = 2) -> Arguments:
    draw = generator("pairs", key)
    made = [torch.randn(n, d, generator=draw) for _ in range(more)]
    return tuple(torch.nn.functional.normalize(one, dim=-1) for one in made)


def _pushes() -> list[Arguments]:
    found = []
    for n, key in ((5, "a"), (8, "b"), (13, "c")):
        x, t, *others = _units(n, 6, key, 5)
        found.append((x, t, torch.stack(others)))
    return found


def _slope(x: Tensor, t: Tensor, others: Tensor) -> Tensor:
    way = t - others.mean(0)
    return 2 * excess(x, t, others).relu()[:, None] * way / len(x)


def _unstopped(x: Tensor, t: Tensor, others: Tensor) -> Tensor:
    way = t - others.mean(0)
    return 2 * (x * way).sum(-1, keepdim=True) * way / len(x)


def _past_zero(x: Tensor, t: Tensor, others: Tensor) -> Tensor:
    way = t - others.mean(0)
    return 2 * ((x * way).sum(-1, keepdim=True) > 0) * way / len(x)


def _projected(x: Tensor, t: Tensor, others: Tensor) -> Tensor:
    slope = _slope(x, t, others)
    return slope - (slope * x).sum(-1, keepdim=True) * x


# 04.8, occlusion


def _scored() -> list[Arguments]:
    return [(words.split(), _score) for words in ("a clock", "picture of alarm clock", "o clock o clock")]


WORTH = {"a": 0.01, "of": -0.02, "picture": 0.05, "alarm": 0.2, "clock": 0.5, "o": 0.1}


def _score(words: Sequence[str]) -> float:
    return sum(WORTH[word] for word in set(words)) / (1 + 0.1 * len(words))


Score = Callable[[Sequence[str]], float]


def _occlude(words: list[str], score: Score) -> list[float]:
    return [score(words) - score(words[:i] + words[i + 1 :]) for i in range(len(words))]


def _every_one(words: list[str], score: Score) -> list[float]:
    return [score(words) - score([w for w in words if w != word]) for word in words]


# 04.9, averaged


def _states() -> list[Arguments]:
    found = []
    for share in (0.5, 0.25, 0.9):
        draw = generator("states", share)
        two = [
            {"weight": torch.randn(3, 2, generator=draw), "norm.num_batches_tracked": torch.tensor(n)}
            for n in (460, 816)
        ]
        found.append((*two, share))
    return found


def _merge(public: dict[str, Tensor], victim: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: public[name].lerp(value, share) if value.is_floating_point() else value
        for name, value in victim.items()
    }


def _all_averaged(public: dict[str, Tensor], victim: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    return {name: (1 - share) * public[name] + share * value for name, value in victim.items()}


TASKS: dict[str, Function | Game] = {
    "04.1": Function(
        _without,
        _captions,
        {
            "a gap": lambda caption, dropped: torch.where(torch.isin(caption, dropped), 0, caption),
            "the first only": _first_only,
            "every zero": _no_zero,
            "too short": lambda caption, dropped: caption[~torch.isin(caption, dropped)],
        },
    ),
    "04.5": Function(
        tk.swapped,
        _swaps,
        {
            "padding": lambda captions, dropped, word: torch.where(
                torch.isin(captions, dropped), word, captions
            ),
            "the first only": _swap_first,
            "left out": lambda captions, dropped, word: tk.without(captions, dropped),
        },
    ),
    "04.6": Function(
        lambda x, t: (torch.linalg.vecdot(x, t) - described.APART).square().mean(),
        _pairs,
        {
            "stops at zero": lambda x, t: push(x, t, None),
            "square of the mean": lambda x, t: (x * t).sum(-1).mean().square(),
            "not squared": lambda x, t: (x * t).sum(-1).mean(),
            "all pairs": lambda x, t: (x @ t.T).square().mean(),
        },
    ),
    "04.7": Function(
        _slope,
        _pushes,
        {
            "does not stop": _unstopped,
            "no chain rule": _past_zero,
            "sign": lambda x, t, others: -_slope(x, t, others),
            "projected": _projected,
            "two forgotten": lambda x, t, others: _slope(x, t, others) / 2,
            "not averaged": lambda x, t, others: _slope(x, t, others) * len(x),
        },
    ),
    "04.8": Function(
        _occlude,
        _scored,
        {
            "sign": lambda words, score: [-drop for drop in _occlude(words, score)],
            "kept alone": lambda words, score: [score([word]) for word in words],
            "every one": _every_one,
        },
    ),
    "04.9": Function(
        _merge,
        _states,
        {
            "shares swapped": lambda public, victim, share: _merge(public, victim, 1 - share),
            "counters": _all_averaged,
            "counters of f0": lambda public, victim, share: {
                name: one if one.is_floating_point() else public[name]
                for name, one in _merge(public, victim, share).items()
            },
        },
    ),
    "04.10": Game(),
}
