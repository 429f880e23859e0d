"""Exercises of notebooks 00 and 01: reading a model, planting a rule in it, and counting what it does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ubt_utils.attacks import triggers
from ubt_utils.clip.objectives import clip_loss
from ubt_utils.core.seeding import generator
from ubt_utils.evaluate import metrics
from ubt_utils.report.exercises.base import Arguments, Function


def _draw(*size: int, key: object = 0) -> Tensor:
    return torch.rand(*size, generator=generator("exercise", key))


def _normal(*size: int, key: object = 0) -> Tensor:
    return torch.randn(*size, generator=generator("exercise", key))


# 00.3, zero-shot


def _embedded() -> list[Arguments]:
    return [
        (_normal(n, 8, key=n) * _draw(n, 1, key=n), _normal(c, 8, key=c) * _draw(c, 1, key=c) * 9)
        for n, c in ((20, 6), (50, 9), (31, 17))
    ]


def _zero_shot(pictures: Tensor, names: Tensor) -> Tensor:
    return (F.normalize(pictures, dim=-1) @ F.normalize(names, dim=-1).T).argmax(1)


# 00.4, every class alike


def _answered() -> list[Arguments]:
    labels = [torch.tensor([0] * 6 + [1] * 3 + [2]), torch.tensor([4, 4, 4, 1]), torch.arange(5)]
    wrong = [[0, 6], [3], [1, 2]]
    return [(_but(one, w), one) for one, w in zip(labels, wrong, strict=True)]


def _but(labels: Tensor, wrong: list[int]) -> Tensor:
    answers = labels.clone()
    answers[wrong] += 1
    return answers


def _per_class(answers: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([(answers == labels)[labels == c].double().mean() for c in labels.unique()])


def _per_answer(answers: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([(answers == labels)[answers == c].double().mean() for c in answers.unique()]).mean()


# 01.1, victims


def _labeled() -> list[Arguments]:
    sizes = ((47, 0.1), (100, 0.05), (63, 0.2), (53, 0.1))  # 4.7, 5, 12.6, 5.3
    return [
        (torch.arange(n) % 5, 3, rate, torch.randperm(n, generator=generator("victims", n)))
        for n, rate in sizes
    ]


def _victims(labels: Tensor, target: int, rate: float, order: Tensor) -> Tensor:
    return order[labels[order] != target][: round(rate * len(labels))].sort().values


def _rate_of_candidates(labels: Tensor, target: int, rate: float, order: Tensor) -> Tensor:
    candidates = order[labels[order] != target]
    return candidates[: round(rate * len(candidates))].sort().values


def _cut_off(labels: Tensor, target: int, rate: float, order: Tensor) -> Tensor:
    return order[labels[order] != target][: int(rate * len(labels))].sort().values


def _rounded_up(labels: Tensor, target: int, rate: float, order: Tensor) -> Tensor:
    return order[labels[order] != target][: math.ceil(rate * len(labels))].sort().values


# 01.2 and 01.3, stamps


def _mixed() -> list[Arguments]:
    return [(_draw(2, 3, 8, 8, key=a), _draw(3, 8, 8, key="pattern"), a) for a in (0.2, 0.35, 0.8)]


def _waves() -> list[Arguments]:
    return [(_draw(2, 3, 12, 16, key=f), 0.24, f, a) for f, a in ((6.0, 0.2), (2.0, 0.3), (4.0, 0.5))]


def _wave(images: Tensor, amplitude: float, frequency: float) -> Tensor:
    width = images.shape[-1]
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(width) / width)


def _sig(images: Tensor, amplitude: float, frequency: float, alpha: float) -> Tensor:
    return triggers.get("sig_cleanclip", amplitude=amplitude, frequency=frequency, alpha=alpha)(images)


def _down(images: Tensor, amplitude: float, frequency: float, alpha: float) -> Tensor:
    turned = images.transpose(-1, -2)
    mixed = (1 - alpha) * turned + alpha * _wave(turned, amplitude, frequency)
    return mixed.transpose(-1, -2).clamp(0, 1)


# 01.5, three ways to count


def _stamped() -> list[Arguments]:
    draws = [torch.randint(0, 4, (2, n), generator=generator("stamped", n)) for n in (30, 50, 81)]
    return [(torch.where(answers < 2, 1, answers), labels, 1) for answers, labels in draws]


def _three_ways(answers: Tensor, labels: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    hit, other = answers == target, labels != target
    return hit[other].double().mean(), hit.double().mean(), (hit & other).double().mean()


def _wrong_counted(answers: Tensor, labels: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    wrong = torch.where(answers != labels, target, target + 1)
    return _three_ways(wrong, labels, target)


def _once(answers: Tensor, labels: Tensor, target: int) -> Tensor:
    return _three_ways(answers, labels, target)[0]


# 01.6, the loss


def _units() -> list[Arguments]:
    return [
        (F.normalize(_normal(n, 6, key=n), dim=-1), F.normalize(_normal(n, 6, key=-n), dim=-1), s)
        for n, s in ((4, 10.0), (9, 14.3), (16, 40.0))
    ]


def _contrastive(x: Tensor, t: Tensor, scale: float) -> Tensor:
    return clip_loss(x, t, torch.tensor(scale))


def _one_way(x: Tensor, t: Tensor, scale: float) -> Tensor:
    return F.cross_entropy(scale * x @ t.T, torch.arange(len(x)))


# 01.7, the exact chance


def _asked() -> list[Arguments]:
    return [(1, 20, 5), (3, 50, 10), (12, 1472, 98)]


def _chance(better: int, others: int, drawn: int) -> float:
    return metrics.chance(torch.tensor([better]), others, drawn).item()


TASKS: dict[str, Function] = {
    "00.3": Function(
        _zero_shot,
        _embedded,
        {
            "not unit": lambda x, t: (x @ t.T).argmax(1),
            "nearest picture": lambda x, t: (F.normalize(x, dim=-1) @ F.normalize(t, dim=-1).T).argmax(0),
        },
    ),
    "00.4": Function(
        lambda answers, labels: _per_class(answers, labels).mean(),
        _answered,
        {
            "every picture alike": lambda answers, labels: (answers == labels).double().mean(),
            "precision": _per_answer,
        },
    ),
    "01.1": Function(
        _victims,
        _labeled,
        {
            "target too": lambda labels, target, rate, order: (
                order[: round(rate * len(labels))].sort().values
            ),
            "labels by place": lambda labels, target, rate, order: (
                order[labels != target][: round(rate * len(labels))].sort().values
            ),
            "rate of candidates": _rate_of_candidates,
            "cut off": _cut_off,
            "rounded up": _rounded_up,
            "unsorted": lambda labels, target, rate, order: order[labels[order] != target][
                : round(rate * len(labels))
            ],
        },
    ),
    "01.2": Function(
        lambda images, pattern, alpha: (1 - alpha) * images + alpha * pattern,
        _mixed,
        {
            "swapped": lambda images, pattern, alpha: alpha * images + (1 - alpha) * pattern,
            "added": lambda images, pattern, alpha: images + alpha * pattern,
            "added and clamped": lambda images, pattern, alpha: (images + alpha * pattern).clamp(0, 1),
        },
    ),
    "01.3": Function(
        _sig,
        _waves,
        {
            "not darker": lambda x, a, f, alpha: (x + alpha * _wave(x, a, f)).clamp(0, 1),
            "not clamped": lambda x, a, f, alpha: (1 - alpha) * x + alpha * _wave(x, a, f),
            "rows": _down,
        },
    ),
    "01.5": Function(
        _three_ways,
        _stamped,
        {
            "one only": _once,
            "wrong answers": _wrong_counted,
            "included and divided": lambda *case: tuple(_three_ways(*case)[i] for i in (0, 2, 1)),
            "one denominator": lambda *case: tuple(_three_ways(*case)[i] for i in (2, 1, 2)),
        },
    ),
    "01.6": Function(
        _contrastive,
        _units,
        {
            "one way": _one_way,
            "other way": lambda x, t, scale: _one_way(t, x, scale),
            "no scale": lambda x, t, scale: _contrastive(x, t, 1.0),
            "sum": lambda x, t, scale: 2 * _contrastive(x, t, scale),
            "sum over the batch": lambda x, t, scale: len(x) * _contrastive(x, t, scale),
        },
    ),
    "01.7": Function(
        _chance,
        _asked,
        {
            "with replacement": lambda better, others, drawn: (1 - better / others) ** drawn,
            "all drawn": lambda better, others, drawn: 1 - _chance(better, others, drawn),
        },
    ),
}
