"""Rates counted by hand, intervals and ranking measures by their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ubt_utils.evaluate import metrics

# Rates


def clopper_pearson(hits: float, n: float) -> tuple[float, float]:
    low = stats.beta.ppf(0.025, hits, n - hits + 1) if hits > 0 else 0.0
    return low, stats.beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40))
def test_where_classes_count_alike_a_rate_is_their_mean(drawn):
    labels, hits = np.array([c for c, _ in drawn]), np.array([h for _, h in drawn])
    expected = np.mean([hits[labels == c].mean() for c in sorted(set(labels))])
    rate = metrics.rate(torch.tensor(hits), classes=torch.tensor(labels))
    assert rate.value == pytest.approx(expected) and rate.n == len(drawn)


def test_chances_count_as_parts_of_hits():
    rate = metrics.rate(torch.tensor([0.25, 0.5, 0.0, 1.0]))
    assert rate.value == pytest.approx(1.75 / 4)
    assert (rate.low, rate.high) == pytest.approx(clopper_pearson(1.75, 4))


def test_a_rate_over_nothing_or_of_classes_is_refused():
    with pytest.raises(ValueError, match="over no pictures"):
        metrics.rate(torch.tensor([], dtype=torch.bool))
    with pytest.raises(ValueError, match=r"hits are true or false, or chances; got torch\.int64"):
        metrics.rate(torch.tensor([3, 1]))


# Intervals


@given(st.integers(1, 200), st.integers(0, 200))
def test_the_interval_is_clopper_and_pearsons(n, hits):
    hits = min(hits, n)
    rate = metrics.rate(torch.arange(n) < hits)
    low, high = clopper_pearson(hits, n)
    assert rate.value == pytest.approx(hits / n)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert rate.low - 1e-12 <= rate.value <= rate.high + 1e-12


def test_golden_values():
    rate = metrics.rate(torch.arange(10) < 8)  # 8 of 10: 0.4439 to 0.9748, as in textbooks
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.4439, 0.9748)
    never = metrics.rate(torch.zeros(1459, dtype=torch.bool))
    assert (never.value, never.low, never.se) == (0, 0, 0)
    assert never.high == pytest.approx(1 - 0.025 ** (1 / 1459)) == pytest.approx(0.0025, abs=3e-5)
    always = metrics.rate(torch.ones(7, dtype=torch.bool), classes=torch.tensor([0, 0, 0, 0, 0, 1, 2]))
    assert (always.value, always.high) == (1, 1) and always.low < 1


def test_paintings_of_one_drawing_count_once_in_the_interval():
    hits = torch.tensor([True] * 12 + [False] * 8)
    units = torch.arange(5).repeat_interleave(4)
    rate = metrics.rate(hits, units)
    assert (rate.value, rate.n, rate.units) == (pytest.approx(0.6), 20, 5)
    assert (rate.low, rate.high) == pytest.approx(clopper_pearson(3, 5))
    alone = metrics.rate(hits)
    assert alone.units == 20 and alone.high - alone.low < rate.high - rate.low


def test_a_drawing_counts_by_the_mean_of_its_paintings():
    rate = metrics.rate(torch.tensor([True, True, True, False]), torch.tensor([4, 4, 4, 9]))
    assert (rate.value, rate.units) == (0.5, 2)


def test_the_standard_error_is_that_of_a_mean_over_drawings():
    hits, units = torch.tensor([1.0, 0.0, 0.5, 0.5, 0.2, 0.0]), torch.arange(3).repeat_interleave(2)
    assert metrics.rate(hits, units).se == pytest.approx(stats.sem([0.5, 0.5, 0.1]))
    alike = metrics.rate(torch.tensor([1.0, 0.2, 0.4]), classes=torch.tensor([5, 7, 6]))
    assert alike == metrics.rate(torch.tensor([1.0, 0.2, 0.4]))  # as many classes as drawings
    assert metrics.rate(torch.tensor([0.3])).se is None


def test_classes_of_unequal_size_make_fewer_equal_trials():
    # 3 drawings of class 0 weigh 1/6 each, one of class 1 weighs 1/2: as 1 / (3/36 + 1/4) = 3 equal ones
    rate = metrics.rate(torch.tensor([1.0, 0, 0, 1]), classes=torch.tensor([0, 0, 0, 1]))
    assert rate.value == pytest.approx(2 / 3) and (rate.n, rate.units) == (4, 4)
    assert (rate.low, rate.high) == pytest.approx(clopper_pearson(2, 3))
    spread = ((1 / 3) ** 2 + 2 * (2 / 3) ** 2) / 36 + (1 / 3) ** 2 / 4
    assert rate.se == pytest.approx(math.sqrt(spread * 4 / 3))


def test_a_rate_from_before_standard_errors_can_be_read():
    assert metrics.Rate(**{"value": 0.5, "n": 4, "units": 2, "low": 0.1, "high": 0.9}).se is None


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
