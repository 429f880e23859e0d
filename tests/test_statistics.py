"""Intervals and paired tests against their formulas."""

import math

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
