"""What one question comes to, rates with their intervals, retrieval, detection measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.proportion import proportion_confint

PROBE_C, PROBE_STEPS = 10.0, 200


@dataclass(frozen=True)
class Question:
    """What is asked of every picture: which of `ways` classes it shows, out of `classes` in all. Its own
    class and the target are always offered, the others are drawn at random. ways: 0 offers all. target: an
    index.

    Raises ValueError where so many classes cannot be offered.
    """

    classes: int
    ways: int
    target: int

    def __post_init__(self) -> None:
        if not 2 <= self.offered <= self.classes:
            raise ValueError(f"a question cannot offer {self.offered} of {self.classes} classes")
        if not 0 <= self.target < self.classes:
            raise ValueError(f"the target {self.target} is none of {self.classes} classes")

    @property
    def offered(self) -> int:
        """How many classes a question offers."""
        return self.ways or self.classes

    def unbeaten(self, above: torch.Tensor, fixed: int) -> torch.Tensor:
        """(N,) the chance that no class is drawn of those `above` (N,) an answer; fixed: how many classes are
        always offered."""
        return chance(above, self.classes - fixed, self.offered - fixed)


def chance(above: torch.Tensor, others: int, drawn: int) -> torch.Tensor:
    """(N,) float64: the chance that none of the `above` (N,) better classes is among `drawn` ones that are
    drawn of `others` without replacement (hypergeometric): exactly 1 where none is better, exactly 0 where
    one of them must be drawn. ValueError for more than there are."""
    if not 0 <= drawn <= others:
        raise ValueError(f"{drawn} classes cannot be drawn of {others}")
    if len(above) and int(above.max()) > others:
        raise ValueError(f"{int(above.max())} of {others} classes cannot be better")
    passed = torch.arange(others, dtype=torch.double)
    kept = ((others - drawn - passed) / (others - passed)).clamp(min=0).cumprod(0)
    return torch.cat([torch.ones(1, dtype=torch.double), kept])[above.long()]


@dataclass(frozen=True)
class Standing:
    """Where the own class of each picture and the target stand among all classes.

    above_own, above_target: (N,) integers: how many classes other than these two are ahead of it.
    target_first: (N,) bool: the target is ahead of the own class; False where it is the own class.
    """

    above_own: torch.Tensor
    above_target: torch.Tensor
    target_first: torch.Tensor


def standing(cosines: torch.Tensor, labels: torch.Tensor, target: int) -> Standing:
    """The standing by cosines (N, C) of pictures with labels (N,). Of two equal cosines the lower index is
    ahead, as for argmax. ValueError where cosines are not numbers."""
    if cosines.isnan().any():
        raise ValueError(f"{int(cosines.isnan().any(1).sum())} of {len(cosines)} pictures have no cosines")
    over_own, over_target = _ahead(cosines, labels), _ahead(cosines, torch.full_like(labels, target))
    first, last = over_own[:, target], over_target.gather(1, labels[:, None])[:, 0]
    return Standing(over_own.sum(1) - first.long(), over_target.sum(1) - last.long(), first)


def _ahead(cosines: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """(N, C) bool: which classes are ahead of the class `of` (N,)."""
    level, lower = cosines.gather(1, of[:, None]), torch.arange(cosines.shape[1]) < of[:, None]
    return (cosines > level) | ((cosines == level) & lower)


def right(found: Standing, labels: torch.Tensor, question: Question) -> torch.Tensor:
    """(N,) float64: the chance, over all draws of the other classes, that a picture is read as what it is."""
    real = labels == question.target
    out = torch.empty(len(labels), dtype=torch.double)
    out[real] = question.unbeaten(found.above_own[real], 1)
    out[~real] = question.unbeaten(found.above_own[~real], 2) * ~found.target_first[~real]
    return out


def fooled(found: Standing, labels: torch.Tensor, question: Question) -> torch.Tensor:
    """(N,) float64: the chance, over all draws of the other classes, that a picture is read as the target."""
    real = labels == question.target
    out = torch.empty(len(labels), dtype=torch.double)
    out[real] = question.unbeaten(found.above_target[real], 1)
    out[~real] = question.unbeaten(found.above_target[~real], 2) * found.target_first[~real]
    return out


@dataclass(frozen=True)
class Rate:
    """A rate with its 95 % interval by Clopper and Pearson, which has an honest upper end for 0 of n.

    value: fraction 0–1 of the n pictures. units: how many of them count as independent (drawings; several
    paintings of one drawing are one unit); interval and standard error are over units. se: None for one unit,
    or in records from before it was kept.
    """

    value: float
    n: int
    units: int
    low: float
    high: float
    se: float | None = None


def rate(hits: torch.Tensor, units: torch.Tensor | None = None, classes: torch.Tensor | None = None) -> Rate:
    """The rate of `hits` (n,): true or false, or chances. units: (n,) each one's unit; a unit counts by its
    mean. classes: (n,) where every class is to count alike (as on a balanced set such as ImageNet's
    validation), not every unit; a unit lies in one class. The interval then has as many trials as equal units
    of the same variance would be (Kish).

    Raises ValueError when there is nothing to count, or for predicted classes in place of hits.
    """
    n = len(hits)
    if n == 0:
        raise ValueError("a rate over no pictures is not defined")
    if not (hits.dtype == torch.bool or hits.is_floating_point()):
        raise ValueError(f"hits are true or false, or chances; got {hits.dtype}")
    unit = torch.arange(n) if units is None else units.unique(return_inverse=True)[1]
    means = _means(hits.double(), unit)
    group = torch.zeros_like(unit) if classes is None else classes.unique(return_inverse=True)[1]
    group = torch.zeros(len(means), dtype=torch.long).index_copy_(0, unit, group)
    value = min(1.0, _means(means, group).mean().item())
    sizes = group.bincount().double()
    weights = 1 / (len(sizes) * sizes[group])
    trials, count = 1 / weights.square().sum().item(), len(means)
    low, high = proportion_confint(value * trials, trials, method="beta")
    spread = (weights * (means - value)).square().sum().item()
    se = (spread * count / (count - 1)) ** 0.5 if count > 1 else None
    return Rate(value, n, count, float(low), float(high), se)


def _means(values: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """(G,) the mean of values (n,) per group (n,), which are numbered from 0."""
    count = group.bincount()
    return torch.zeros(len(count), dtype=torch.double).index_add_(0, group, values) / count


RECALLS = (1, 5, 10)


def retrieval(images: torch.Tensor, captions: torch.Tensor, owner: torch.Tensor) -> dict[str, float]:
    """Recall@1, 5, 10 both ways: {"image_to_text_r1": …, "text_to_image_r10": …}, fractions.

    images: (N, D) unit. captions: (M, D) unit. owner: (M,) the image of each caption. An image
    counts as found at k when one of its captions is among its k nearest, as the field does it.
    Raises ValueError when there are fewer than ten of either.
    """
    if min(len(images), len(captions)) < max(RECALLS):
        raise ValueError(f"recall@{max(RECALLS)} of {len(images)} images and {len(captions)} captions")
    found: dict[str, float] = {}
    cosines = images @ captions.T
    to_text = owner[cosines.topk(max(RECALLS), dim=1).indices] == torch.arange(len(images))[:, None]
    to_image = cosines.T.topk(max(RECALLS), dim=1).indices == owner[:, None]
    for way, hit in (("image_to_text", to_text), ("text_to_image", to_image)):
        found |= {f"{way}_r{k}": hit[:, :k].any(dim=1).double().mean().item() for k in RECALLS}
    return found


def linear_probe(
    train: torch.Tensor, train_labels: torch.Tensor, test: torch.Tensor, test_labels: torch.Tensor
) -> float:
    """Accuracy of a logistic regression on embeddings: (n, D) and (m, D), labels (n,) and (m,).

    The penalty is fixed (C = 10 on standardized features), not tuned on the test set.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=PROBE_STEPS))
    probe.fit(train.numpy(), train_labels.numpy())
    return float(probe.score(test.numpy(), test_labels.numpy()))


def precision_at(scores: torch.Tensor, truth: torch.Tensor, k: int) -> float:
    """The fraction of poisoned pairs among the k highest scores; (N,) float, (N,) bool.

    Ties are broken by position. Raises ValueError when k is not in 1..N.
    """
    if not 1 <= k <= len(scores):
        raise ValueError(f"precision@{k} of {len(scores)} scores is not defined")
    order = torch.sort(scores, descending=True, stable=True).indices
    return truth[order[:k]].double().mean().item()


def detection(scores: torch.Tensor, truth: torch.Tensor, k: int = 64) -> dict[str, float]:
    """AUROC, average precision, precision@k and the false-positive rate where 95 % of the poison is found,
    of scores (N,), higher = more suspicious.

    A score of −inf (a pair outside a detector's pool) ranks last.
    """
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().sum())} of {len(scores)} scores are not numbers")
    finite = np.nan_to_num(scores.double().numpy(), neginf=-1e9)
    return {
        "auroc": float(roc_auc_score(truth.numpy(), finite)),
        "average_precision": float(average_precision_score(truth.numpy(), finite)),
        f"precision_at_{k}": precision_at(scores, truth, k),
        "fpr_at_95_tpr": _false_positives(finite, truth.numpy()),
    }


def _false_positives(scores: np.ndarray, truth: np.ndarray, found: float = 0.95) -> float:
    """The smallest false-positive rate of a threshold that finds at least this part of the poison."""
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(false[true >= found - 1e-12].min())
