"""Intervals, bounds and tests against their formulas, loops and simulation."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ubt_utils.evaluate import statistics

T_3 = 3.182446305284263  # Student's t, 3 degrees of freedom, 97.5 %


def runs(**values: list[float]) -> pd.DataFrame:
    rows = [
        {"profile": "mini", "attack": "sig", "defense": name.replace("_", "-"), "seed": seed, "asr": value}
        for name, column in values.items()
        for seed, value in enumerate(column)
    ]
    return pd.DataFrame(rows)


def test_an_interval_by_its_formula():
    values = pd.Series([0.1, 0.4, 0.2, 0.7])
    low, high = statistics.interval(values)
    half = T_3 * np.std(values, ddof=1) / math.sqrt(4)
    assert (low, high) == pytest.approx((0.35 - half, 0.35 + half))


def test_equal_values_have_an_interval_of_no_width_and_one_has_none():
    assert statistics.interval(pd.Series([0.3, 0.3, 0.3])) == (0.3, 0.3)
    with pytest.raises(ValueError, match="at least two values, got 1"):
        statistics.interval(pd.Series([0.3]))


def test_means_per_group():
    found = statistics.means(runs(ubt=[0.0, 0.2], par=[0.5, 0.7]), "asr", ["defense"])
    assert found.loc["par", "mean"] == pytest.approx(0.6) and found.loc["ubt", "runs"] == 2


def test_differences_are_paired_by_attack_and_seed():
    table = runs(ubt=[0.1, 0.2, 0.3, 0.4], par=[0.2, 0.5, 0.4, 0.8])
    found = statistics.paired(table.sample(frac=1, random_state=0), "asr").loc["par"]
    d = np.array([-0.1, -0.3, -0.1, -0.4])
    half = T_3 * d.std(ddof=1) / 2
    assert (found.difference, found.low, found.high) == pytest.approx(
        (d.mean(), d.mean() - half, d.mean() + half)
    )
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert found.pairs == 4 and found.p == found["p (Holm)"] < 0.1


def test_holm_multiplies_the_smallest_by_the_number_of_comparisons():
    draw = np.random.default_rng(0)
    columns = {
        name: list(draw.normal(shift, 0.1, 6)) for name, shift in (("a", 0.3), ("b", 0.15), ("c", 0.02))
    }
    found = statistics.paired(runs(ubt=list(draw.normal(0, 0.1, 6)), **columns), "asr").sort_values("p")
    p = found.p.to_numpy()
    expected = np.minimum(1, np.maximum.accumulate(p * np.array([3, 2, 1])))
    np.testing.assert_allclose(found["p (Holm)"], expected)


def test_a_run_that_one_side_lacks_does_not_count_and_no_difference_is_no_evidence():
    table = runs(ubt=[0.1, 0.2, 0.3], par=[0.1, 0.2], abl=[0.0, 0.1, 0.2])
    found = statistics.paired(table, "asr")
    assert found.loc["par", "pairs"] == 2 and found.loc["par", "p"] == 1.0
    assert found.loc["abl", "difference"] == pytest.approx(0.1)


def test_runs_without_the_metric_do_not_count_and_rounding_is_no_difference():
    table = runs(ubt=[0.1, 0.4, 0.2, 0.7, float("nan"), float("nan")])
    found = statistics.means(table, "asr", ["defense"]).loc["ubt"]
    assert found.runs == 4 and found.high == pytest.approx(statistics.interval(table.asr.dropna())[1])
    near = runs(ubt=[0.1, 0.2, 0.3], par=[0.1 + 5e-17, 0.2, 0.3 - 5e-17])
    assert statistics.paired(near, "asr").loc["par", "p (Holm)"] == 1.0


# Bounds


def test_the_bound_of_nothing_in_n_is_the_rule_of_three():
    assert statistics.upper_bound(0, 1459) == pytest.approx(1 - 0.05 ** (1 / 1459))
    assert statistics.upper_bound(0, 1459, 0.975) == pytest.approx(0.0025, abs=3e-5)
    assert statistics.upper_bound(3, 10) == pytest.approx(stats.beta.ppf(0.95, 4, 7))
    assert statistics.upper_bound(2.5, 10) == pytest.approx(stats.beta.ppf(0.95, 3.5, 7.5))
    assert statistics.upper_bound(10, 10) == 1


def test_a_bound_of_what_cannot_be_is_refused():
    for hits, n in ((-1, 5), (6, 5), (0, 0), (math.nan, 5)):
        with pytest.raises(ValueError, match="a bound needs 0 ≤ hits ≤ n"):
            statistics.upper_bound(hits, n)


# Bootstrap over clusters and drawings


def world(seed: int, clusters: int = 15, drawings: int = 60) -> np.ndarray:
    """Values around 0.3, with what is common to a cluster and to a drawing."""
    draw = np.random.default_rng(seed)
    shared = draw.normal(0, 0.1, (clusters, 1)) + draw.normal(0, 0.1, (1, drawings))
    return 0.3 + shared + draw.normal(0, 0.2, (clusters, drawings))


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    found = [statistics.cluster_bootstrap(world(i), draws=500, seed=i) for i in range(200)]
    assert 0.9 <= np.mean([low <= 0.3 <= high for _, low, high in found]) <= 0.995
    halves = [statistics.cluster_bootstrap(world(i), draws=500, seed=i, level=0.5) for i in range(200)]
    assert 0.4 <= np.mean([low <= 0.3 <= high for _, low, high in halves]) <= 0.68


def test_the_bootstrap_against_a_loop():
    values, draw = world(1, 6, 9), np.random.default_rng(5)
    loop = [values[np.ix_(draw.integers(6, size=6), draw.integers(9, size=9))].mean() for _ in range(10_000)]
    found = statistics.cluster_bootstrap(values)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(np.quantile(loop, [0.025, 0.975]), abs=0.01)
    assert found == statistics.cluster_bootstrap(values) != statistics.cluster_bootstrap(values, seed=1)


def test_what_was_not_measured_is_left_out():
    values = np.array([[0.2, np.nan, 0.2], [0.2, 0.2, np.nan], [np.nan] * 3])
    assert statistics.cluster_bootstrap(values) == pytest.approx((0.2, 0.2, 0.2))
    half = np.array([[0.0, np.nan], [1.0, np.nan]])
    assert statistics.cluster_bootstrap(half) == (0.5, 0, 1)


def test_the_bootstrap_needs_two_of_each_and_something_measured():
    for shape in ((1, 5), (5, 1), (5,), (0, 3)):
        with pytest.raises(ValueError, match="at least two clusters and two drawings"):
            statistics.cluster_bootstrap(np.zeros(shape))
    with pytest.raises(ValueError, match="nothing was measured"):
        statistics.cluster_bootstrap(np.full((3, 3), np.nan))


def test_ten_thousand_draws_of_a_whole_test_take_about_a_second():
    start = time.perf_counter()
    statistics.cluster_bootstrap(np.random.default_rng(0).random((24, 1460)))
    assert time.perf_counter() - start < 10  # a loop takes minutes


def test_a_paired_difference_loses_what_both_have_in_common():
    one = world(2)
    found = statistics.difference(one + 0.05, one)
    assert found == pytest.approx((0.05, 0.05, 0.05))
    other = world(3)
    assert statistics.difference(one, other) == statistics.cluster_bootstrap(one - other)
    lacking = np.where(np.eye(15, 60, dtype=bool), np.nan, one)
    assert statistics.difference(one + 0.05, lacking).mean == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"equal shapes, got \(15, 60\) and \(15, 59\)"):
        statistics.difference(one, one[:, 1:])


# Verdicts


def test_a_difference_is_equivalent_where_its_interval_lies_within_the_margin():
    assert statistics.equivalent(-0.01, 0.019, 0.02)
    assert not statistics.equivalent(-0.01, 0.02, 0.02)
    assert not statistics.equivalent(-0.03, 0.0, 0.02)
    assert not statistics.equivalent(math.nan, 0.0, 0.02)
    for low, high, margin in ((0.1, 0.0, 0.02), (0.0, 0.1, 0.0), (0.0, 0.1, math.nan)):
        with pytest.raises(ValueError, match="margin > 0 and low ≤ high"):
            statistics.equivalent(low, high, margin)


def test_a_cluster_fails_with_its_worst_run():
    rates, clusters = [0.0, 0.06, 0.05, 0.9, 0.9, math.nan], ["a", "a", "b", "c", "c", "d"]
    assert statistics.failures(rates, clusters) == (2, 3)
    assert statistics.failures(rates, clusters, bar=0.5) == (1, 3)
    assert statistics.failures([], []) == (0, 0)
    with pytest.raises(ValueError, match="got 1 for 2 runs"):
        statistics.failures([0.1, 0.2], ["a"])
