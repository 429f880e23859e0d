"""Evaluation: clean accuracy, ASR and its conventions, intervals, detection measures."""

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
CONVENTIONS = ("exclude_target", "include_target", "divide_by_all")


@dataclass(frozen=True)
class Rate:
    """A rate with its Wilson 95 % interval.

    value: fraction 0–1 of the n pictures. units: how many of them count as independent
    (drawings; several paintings of one drawing are one unit); the interval uses units.
    """

    value: float
    n: int
    units: int
    low: float
    high: float


def rate(hits: torch.Tensor, units: torch.Tensor | None = None, value: float | None = None) -> Rate:
    """The rate of true values in `hits` (n,) bool; `units` (n,) names each one's unit.

    value: the rate, where it is not the plain mean of the hits. Raises ValueError when there
    is nothing to count.
    """
    n = len(hits)
    if n == 0:
        raise ValueError("a rate over no pictures is not defined")
    value = hits.double().mean().item() if value is None else value
    count = n if units is None else len(units.unique())
    low, high = proportion_confint(value * count, count, method="wilson")
    return Rate(value, n, count, float(low), float(high))


def clean_accuracy(predicted: torch.Tensor, labels: torch.Tensor, units: torch.Tensor | None = None) -> Rate:
    """CA: the fraction of clean pictures (n,) whose predicted class is the label, every class
    counting alike (the mean over classes, as on a balanced set such as ImageNet's validation)."""
    hits = (predicted == labels).double()
    classes, index = labels.unique(return_inverse=True)
    per_class = torch.zeros(len(classes), dtype=torch.double).index_add_(0, index, hits)
    value = (per_class / index.bincount()).mean().item() if len(hits) else None
    return rate(predicted == labels, units, value)


def attack_success(
    triggered: torch.Tensor,
    labels: torch.Tensor,
    target: int,
    units: torch.Tensor | None = None,
    convention: str = "exclude_target",
) -> Rate:
    """ASR: how often triggered pictures (n,) are classified as the target.

    exclude_target (default; attack-cleanclip, Detect-CLIP-Backdoor-Samples): pictures of
    the real target are left out. include_target (BadCLIP, PAR): they count, as successes
    when so classified. divide_by_all (CleanCLIP's linear probe): left out of the
    numerator only, so that 100 % cannot be reached. Applied to clean predictions the
    same count is the false-target rate.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown ASR convention {convention!r}; known: {', '.join(CONVENTIONS)}")
    hits, real = triggered == target, labels == target
    if convention == "include_target":
        return rate(hits, units)
    if convention == "divide_by_all":
        return rate(hits & ~real, units)
    return rate(hits[~real], None if units is None else units[~real])


def target_recall(
    predicted: torch.Tensor, labels: torch.Tensor, target: int, units: torch.Tensor | None = None
) -> Rate:
    """The fraction of real, clean target pictures that are classified as the target."""
    real = labels == target
    return rate(predicted[real] == target, None if units is None else units[real])


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
