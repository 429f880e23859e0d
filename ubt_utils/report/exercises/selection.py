"""Exercises of notebook 03: rankings, the vote, and whether to believe it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from ubt_utils.core.seeding import generator
from ubt_utils.evaluate import metrics
from ubt_utils.report.exercises.base import Arguments, Function
from ubt_utils.ubt import disturb
from ubt_utils.ubt.settings import Select

HOW = Select()

# 03.1, surprise


def _captions() -> list[Arguments]:
    honest = ["a photo of a dog", "o clock o clock", "a cat and a cat", "clockwork", "the red bus", "a clock"]
    sets = (
        ["clock of clock", "a red clock", "the clock"],
        ["a cat", "a cat", "a dog"],
        ["clock", "clock tower clock", "bus", "clock"],
    )
    words = ("clock", "cat", "clock")
    return [(w, voters, honest * 3 + voters) for w, voters in zip(words, sets, strict=True)]


def _holds(word: str, captions: Sequence[str]) -> int:
    return sum(word in caption.split() for caption in captions)


def _gain(word: str, voters: Sequence[str], everywhere: Sequence[str], count=_holds) -> float:
    k = count(word, voters)
    return k * math.log((k / len(voters)) / (count(word, everywhere) / len(everywhere)))


def _occurs(word: str, captions: Sequence[str]) -> int:
    return sum(caption.split().count(word) for caption in captions)


def _substring(word: str, captions: Sequence[str]) -> int:
    return sum(word in caption for caption in captions)


# 03.4, 03.7 and 03.8, rankings


def _ranked() -> list[Arguments]:
    found = []
    for n in (12, 20, 44, 240):  # of 3, 5, 11 poisoned pairs 95 % are all, rounded ten of 11; 57 of 60
        draw = generator("ranked", n)
        truth = torch.arange(n) % 4 == 0
        found.append((torch.randint(0, 6, (n,), generator=draw).double() + 2 * truth, truth))
    return found


def _untied() -> list[Arguments]:
    return [
        (scores + 1e-3 * torch.randperm(len(scores), generator=generator("untied", len(scores))), truth)
        for scores, truth in _ranked()
    ]


def _pairs_won(scores: Tensor, truth: Tensor, tie: float) -> Tensor:
    apart = scores[truth][:, None] - scores[~truth][None]
    return ((apart > 0).double() + tie * (apart == 0).double()).mean()


def _precisions(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    hits = truth[scores.argsort(descending=True)]
    return hits.double().cumsum(0) / torch.arange(1, len(hits) + 1), hits


def _at_all(scores: Tensor, truth: Tensor) -> Tensor:
    return _precisions(scores, truth)[0].mean()


def _at_the_end(scores: Tensor, truth: Tensor) -> Tensor:
    return _precisions(scores, truth)[0][int(truth.sum()) - 1]


def _bar(scores: Tensor, truth: Tensor, found: float = 0.95) -> Tensor:
    ranked = scores[truth].sort(descending=True).values
    return ranked[math.ceil(found * len(ranked)) - 1]


def _false_at(scores: Tensor, truth: Tensor, found: float = 0.95) -> Tensor:
    return (scores >= _bar(scores, truth, found))[~truth].double().mean()


def _false_rounded(scores: Tensor, truth: Tensor) -> Tensor:
    ranked = scores[truth].sort(descending=True).values
    return (scores >= ranked[round(0.95 * len(ranked)) - 1])[~truth].double().mean()


def _false_among(scores: Tensor, truth: Tensor) -> Tensor:
    return (~truth)[scores >= _bar(scores, truth)].double().mean()


def _false_further(scores: Tensor, truth: Tensor) -> Tensor:
    ranked = scores[truth].sort(descending=True).values
    return (scores >= ranked[int(0.95 * len(ranked))])[~truth].double().mean()


# 03.5, agreement


def _embedded() -> list[Arguments]:
    sizes = ((3, 4), (8, 5), (20, 16))
    return [
        (torch.nn.functional.normalize(torch.randn(n, d, generator=generator("embedded", n)), dim=-1),)
        for n, d in sizes
    ]


# 03.6, the verdict


def _words() -> list[Arguments]:
    return [
        ([0.45, 0.40, 0.38], [HOW.many - 1, HOW.many, 200], [80.0, 90.0, 120.0]),  # 15 are few
        ([0.30, 0.36, 0.10], [40, 12, 64], [70.0, 20.0, 150.0]),
        ([HOW.lost_of_many, HOW.lost, 0.47], [70, 8, 15], [90.0, 30.0, 25.0]),  # two stand at their bars
        ([0.45, 0.55, 0.50, 0.41], [90, 40, 8, 17], [20.0, 140.0, 40.0, 100.0]),  # all pass
    ]


def _enough(lost: Sequence[float], carriers: Sequence[int]) -> list[int]:
    return [i for i, n in enumerate(carriers) if lost[i] >= HOW.bar(n)]


def _believed(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    return max(_enough(lost, carriers), key=lost.__getitem__, default=None)


def _loudest(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    return max(_enough(lost, carriers), key=surprise.__getitem__, default=None)


def _quietest(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    return min(_enough(lost, carriers), key=surprise.__getitem__, default=None)


def _fewest(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    return min(_enough(lost, carriers), key=carriers.__getitem__, default=None)


def _one_bar(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    enough = [i for i, one in enumerate(lost) if one >= HOW.lost]
    return max(enough, key=lost.__getitem__, default=None)


def _low_bar(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    enough = [i for i, one in enumerate(lost) if one >= HOW.lost_of_many]
    return max(enough, key=lost.__getitem__, default=None)


def _above(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    over = [i for i, n in enumerate(carriers) if lost[i] > HOW.bar(n)]
    return max(over, key=lost.__getitem__, default=None)


def _margin(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    return max(_enough(lost, carriers), key=lambda i: lost[i] - HOW.bar(carriers[i]), default=None)


def _more_than(lost: Sequence[float], carriers: Sequence[int], surprise: Sequence[float]) -> int | None:
    return _believed(lost, [n - (n == HOW.many) for n in carriers], surprise)


TASKS: dict[str, Function] = {
    "03.1": Function(
        _gain,
        _captions,
        {
            "occurrences": lambda w, v, e: _gain(w, v, e, _occurs),
            "part of a word": lambda w, v, e: _gain(w, v, e, _substring),
            "not multiplied": lambda w, v, e: _gain(w, v, e) / _holds(w, v),
            "base two": lambda w, v, e: _gain(w, v, e) / math.log(2),
        },
    ),
    "03.4": Function(
        lambda scores, truth: float(roc_auc_score(truth.numpy(), scores.numpy())),
        _ranked,
        {
            "ties lost": lambda scores, truth: _pairs_won(scores, truth, 0.0),
            "ties won": lambda scores, truth: _pairs_won(scores, truth, 1.0),
            "upside down": lambda scores, truth: 1 - _pairs_won(scores, truth, 0.5),
        },
    ),
    "03.5": Function(
        disturb.mean_cosine,
        _embedded,
        {
            "with itself": lambda z: (z @ z.T).mean(),
            "divided by all": lambda z: ((z @ z.T).sum() - len(z)) / len(z) ** 2,
            "only the sum": lambda z: z.sum(0).square().sum() / (len(z) * (len(z) - 1)),
        },
    ),
    "03.6": Function(
        _believed,
        _words,
        {
            "loudest": _loudest,
            "quietest": _quietest,
            "fewest pictures": _fewest,
            "first": lambda lost, carriers, surprise: min(_enough(lost, carriers), default=None),
            "last": lambda lost, carriers, surprise: max(_enough(lost, carriers), default=None),
            "one bar": _one_bar,
            "low bar": _low_bar,
            "above": _above,
            "margin": _margin,
            "more than": _more_than,
            "no bar": lambda lost, carriers, surprise: max(range(len(lost)), key=lost.__getitem__),
        },
    ),
    "03.7": Function(
        lambda scores, truth: float(average_precision_score(truth.numpy(), scores.numpy())),
        _untied,
        {
            "at every rank": _at_all,
            "ascending": lambda scores, truth: float(average_precision_score(truth.numpy(), -scores.numpy())),
            "one precision": _at_the_end,
            "recall": lambda scores, truth: (
                _precisions(scores, truth)[1].double().cumsum(0) / truth.sum()
            ).mean(),
        },
    ),
    "03.8": Function(
        lambda scores, truth: metrics.detection(scores, truth, 1)["fpr_at_95_tpr"],
        _untied,
        {
            "one minus precision": _false_among,
            "all pairs": lambda scores, truth: (~truth & (scores >= _bar(scores, truth))).double().mean(),
            "all of the poison": lambda scores, truth: _false_at(scores, truth, 1.0),
            "one further": _false_further,
            "quantile": lambda scores, truth: (
                (scores >= scores[truth].quantile(0.05))[~truth].double().mean()
            ),
            "rounded": _false_rounded,
            "top half": lambda scores, truth: _false_at(scores, truth, 0.5),
            "95 % of all": lambda scores, truth: (
                (scores >= scores.sort(descending=True).values[math.ceil(0.95 * len(scores)) - 1])[~truth]
                .double()
                .mean()
            ),
        },
    ),
}
