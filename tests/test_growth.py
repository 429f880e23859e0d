"""Exponents of growth: of made-up costs, and of the recorded ones."""

import matplotlib
import pandas as pd
import pytest

from ubt_utils.core import records
from ubt_utils.report import benchmark_tables, plots

matplotlib.use("Agg")
SIZES = (1_000, 4_000, 16_000)


def costs(**of) -> pd.DataFrame:
    rows = [
        {"stage": stage, "ranks": ranks, "pairs": n, "seconds": cost(n) / ranks}
        for stage, cost in of.items()
        for ranks in (1, 2)
        for n in SIZES
    ]
    return pd.DataFrame(rows)


def test_the_exponent_is_that_of_the_cost():
    found = benchmark_tables.exponents(
        costs(score=lambda n: 0.01 * n, fixed=lambda n: 7.0, square=lambda n: 1e-6 * n**2)
    )
    for stage, expected in {"score": 1, "fixed": 0, "square": 2}.items():
        assert found.loc[stage].tolist() == pytest.approx([expected, expected], abs=1e-9)
    assert list(found.index) == ["score", "fixed", "square"]  # the order of the stages


def test_one_size_shows_no_growth():
    table = costs(score=lambda n: n)
    with pytest.raises(ValueError, match="score on 1 ranks needs at least two sizes"):
        benchmark_tables.exponents(table[table.pairs == SIZES[0]])


def test_the_summary_takes_the_largest_size():
    found = benchmark_tables.summary(costs(score=lambda n: 0.01 * n))
    assert found.loc["score", "s at 16,000 pairs"] == pytest.approx(160)
    assert found.loc["score", "× faster on 2"] == pytest.approx(2)
    assert {"exponent, 1 rank", "exponent, 2 ranks"} <= set(found.columns)


def test_what_was_measured_is_read_back(results_root):
    table = costs(score=lambda n: 0.01 * n)
    records.write_benchmark(benchmark_tables.GROWTH, {"measured": table.to_dict("records")})
    pd.testing.assert_frame_equal(benchmark_tables.read(), table)


def test_the_picture_has_a_line_per_stage_and_number_of_ranks():
    figure = plots.growth(costs(score=lambda n: 0.01 * n, fixed=lambda n: 7.0))
    drawn = [line for axis in figure.axes for line in axis.lines if len(line.get_xdata()) == len(SIZES)]
    assert len(drawn) == 4 and {axis.get_xscale() for axis in figure.axes} == {"log"}
