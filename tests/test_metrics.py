"""Rates counted by hand, intervals and ranking measures by their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.evaluate import metrics

Z = 1.959963984540054  # the 97.5 % point of the normal distribution

# Ten triggered pictures; class 1 is the target. Of the seven that do not show it, four are
# classified as it; of the three that do, two.
LABELS = torch.tensor([0, 0, 0, 2, 2, 2, 2, 1, 1, 1])
PREDICTED = torch.tensor([1, 1, 0, 1, 1, 2, 0, 1, 1, 0])


def wilson(p: float, n: int) -> tuple[float, float]:
    center = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return center - reach, center + reach


# Rates


@pytest.mark.parametrize(
    ("convention", "value", "n"),
    [("exclude_target", 4 / 7, 7), ("include_target", 6 / 10, 10), ("divide_by_all", 4 / 10, 10)],
)
def test_asr_by_every_convention(convention, value, n):
    rate = metrics.attack_success(PREDICTED, LABELS, 1, convention=convention)
    assert rate.value == pytest.approx(value) and rate.n == n


def test_asr_leaves_real_targets_out_unless_asked_otherwise():
    assert metrics.attack_success(PREDICTED, LABELS, 1).value == pytest.approx(4 / 7)


def test_every_convention_is_covered_here_and_others_are_refused():
    assert set(metrics.CONVENTIONS) == {"exclude_target", "include_target", "divide_by_all"}
    with pytest.raises(ValueError, match="unknown ASR convention 'all'; known: exclude_target"):
        metrics.attack_success(PREDICTED, LABELS, 1, convention="all")


def test_a_perfect_attack_reaches_one_only_where_the_convention_allows():
    fooled = torch.ones(10, dtype=torch.long)
    values = [metrics.attack_success(fooled, LABELS, 1, convention=c).value for c in metrics.CONVENTIONS]
    assert values == pytest.approx([1.0, 1.0, 0.7])


def test_target_recall_counts_real_targets_only():
    rate = metrics.target_recall(PREDICTED, LABELS, 1)
    assert rate.value == pytest.approx(2 / 3) and rate.n == 3


def test_clean_accuracy_is_the_mean_over_classes():
    # class 0: 1 of 3 right; class 1: 2 of 3; class 2: 1 of 4
    rate = metrics.clean_accuracy(PREDICTED, LABELS)
    assert rate.value == pytest.approx((1 / 3 + 2 / 3 + 1 / 4) / 3) and rate.n == 10


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_clean_accuracy_on_any_counts(drawn):
    labels, predicted = np.array(drawn).T
    expected = np.mean([(predicted[labels == c] == c).mean() for c in sorted(set(labels))])
    rate = metrics.clean_accuracy(torch.tensor(predicted), torch.tensor(labels))
    assert rate.value == pytest.approx(expected)


def test_a_rate_over_nothing_is_refused():
    none = torch.tensor([], dtype=torch.long)
    only_target = torch.tensor([1, 1])
    for count in (
        lambda: metrics.rate(none.bool()),
        lambda: metrics.clean_accuracy(none, none),
        lambda: metrics.attack_success(only_target, only_target, 1),
        lambda: metrics.target_recall(PREDICTED, LABELS, target=9),
    ):
        with pytest.raises(ValueError, match="over no pictures"):
            count()


# Intervals


@given(st.integers(1, 200), st.integers(0, 200))
def test_the_interval_is_wilsons(n, hits):
    hits = min(hits, n)
    rate = metrics.rate(torch.arange(n) < hits)
    low, high = wilson(hits / n, n)
    assert rate.value == pytest.approx(hits / n)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert rate.low - 1e-12 <= rate.value <= rate.high + 1e-12


def test_wilson_golden_value():
    rate = metrics.rate(torch.arange(10) < 8)  # 8 of 10: 0.4902 to 0.9433, as in textbooks
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.4902, 0.9433)


def test_paintings_of_one_drawing_count_once_in_the_interval():
    hits = torch.tensor([True] * 12 + [False] * 8)
    units = torch.arange(5).repeat_interleave(4)
    rate = metrics.rate(hits, units)
    assert (rate.value, rate.n, rate.units) == (pytest.approx(0.6), 20, 5)
    assert (rate.low, rate.high) == pytest.approx(wilson(0.6, 5))
    alone = metrics.rate(hits)
    assert alone.units == 20 and alone.high - alone.low < rate.high - rate.low


def test_units_follow_the_pictures_that_are_counted():
    units = torch.tensor([0, 0, 1, 2, 2, 3, 3, 4, 4, 5])  # drawings 4 and 5 show the target
    assert metrics.attack_success(PREDICTED, LABELS, 1, units).units == 4
    assert metrics.attack_success(PREDICTED, LABELS, 1, units, "include_target").units == 6
    assert metrics.attack_success(PREDICTED, LABELS, 1, units, "divide_by_all").units == 6
    assert metrics.target_recall(PREDICTED, LABELS, 1, units).units == 2
    assert metrics.clean_accuracy(PREDICTED, LABELS, units).units == 6


# Detection


def brute_force(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """AUROC by counting pairs, average precision by walking down the distinct scores."""
    positive, negative = scores[truth], scores[~truth]
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    precision, recall, area = 0.0, 0.0, 0.0
    for bound in sorted(set(scores.tolist()), reverse=True):
        above = scores >= bound
        precision, before, recall = truth[above].mean(), recall, truth[above].sum() / truth.sum()
        area += (recall - before) * precision
    return wins / (len(positive) * len(negative)), area


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40), st.integers(1, 40))
def test_detection_measures_against_brute_force_with_many_ties(drawn, k):
    scores, truth = np.array([s / 4 for s, _ in drawn]), np.array([t for _, t in drawn])
    if truth.all() or not truth.any():
        truth[0] = not truth[0]
    k = min(k, len(scores))
    found = metrics.detection(torch.tensor(scores), torch.tensor(truth), k)
    auroc, precision = brute_force(scores, truth)
    assert found["auroc"] == pytest.approx(auroc)
    assert found["average_precision"] == pytest.approx(precision)
    cuts = [(scores[truth] >= cut, scores[~truth] >= cut) for cut in {*scores, -9.0}]
    assert found["fpr_at_95_tpr"] == pytest.approx(min(f.mean() for t, f in cuts if t.mean() >= 0.95))
    order = sorted(range(len(scores)), key=lambda i: -scores[i])  # stable, like the contract
    assert found[f"precision_at_{k}"] == pytest.approx(np.mean([truth[i] for i in order[:k]]))


def test_pairs_outside_the_pool_rank_last():
    inf = torch.inf
    scores = torch.tensor([-inf, 0.2, -0.9, -inf, -inf])
    truth = torch.tensor([False, True, True, False, True])
    # pairs of (poisoned, clean): 0.2 and −0.9 beat both clean ones, −inf ties with both
    found = metrics.detection(scores, truth, 2)
    assert found["auroc"] == pytest.approx((2 + 2 + 0.5 * 2) / 6)
    assert found["average_precision"] == pytest.approx(1 / 3 + 1 / 3 + (1 / 3) * (3 / 5))
    assert found["precision_at_2"] == 1.0


def test_precision_at_k_breaks_ties_by_position():
    scores = torch.tensor([0.5, 0.5, 0.9, 0.5])
    truth = torch.tensor([True, False, False, True])
    assert [metrics.precision_at(scores, truth, k) for k in (1, 2, 3, 4)] == [
        0,
        0.5,
        pytest.approx(1 / 3),
        0.5,
    ]


@pytest.mark.parametrize("k", [0, -1, 5])
def test_precision_at_an_impossible_k_is_refused(k):
    with pytest.raises(ValueError, match=f"precision@{k} of 4 scores"):
        metrics.precision_at(torch.zeros(4), torch.zeros(4, dtype=torch.bool), k)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError):
        metrics.detection(torch.tensor([torch.nan, 0.5, 0.1]), torch.tensor([False, True, False]), 1)


def test_retrieval_counts_an_image_as_found_when_one_of_its_captions_is_near():
    draw = torch.Generator().manual_seed(5)
    images = torch.nn.functional.normalize(torch.randn(30, 8, generator=draw), dim=1)
    captions = torch.nn.functional.normalize(torch.randn(60, 8, generator=draw), dim=1)
    owner = torch.arange(60) // 2
    found = metrics.retrieval(images, captions, owner)
    for k in metrics.RECALLS:
        cosines = (images @ captions.T).numpy()
        to_text = [any(owner[j] == i for j in np.argsort(-cosines[i])[:k]) for i in range(30)]
        to_image = [owner[j] in np.argsort(-cosines[:, j])[:k] for j in range(60)]
        assert found[f"image_to_text_r{k}"] == pytest.approx(np.mean(to_text))
        assert found[f"text_to_image_r{k}"] == pytest.approx(np.mean(to_image))


def test_perfect_retrieval_is_one():
    images = torch.eye(12)
    found = metrics.retrieval(images, images.repeat_interleave(2, 0), torch.arange(12).repeat_interleave(2))
    assert set(found.values()) == {1.0}


def test_retrieval_of_too_few_is_refused():
    with pytest.raises(ValueError, match="recall@10 of 4 images and 60 captions"):
        metrics.retrieval(torch.eye(4), torch.eye(60)[:, :4], torch.zeros(60, dtype=torch.long))


def test_a_linear_probe_separates_what_is_separable_and_nothing_else():
    draw = torch.Generator().manual_seed(6)
    labels = torch.arange(200) % 2
    points = torch.randn(200, 6, generator=draw)
    points[:, 2] += 8 * labels
    assert metrics.linear_probe(points[:100], labels[:100], points[100:], labels[100:]) == 1
    noise = torch.randn(200, 6, generator=draw)
    assert 0.3 < metrics.linear_probe(noise[:100], labels[:100], noise[100:], labels[100:]) < 0.7
