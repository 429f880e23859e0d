"""Jobs in processes of their own: results in order, errors told."""

import pytest

from ubt_utils.core import parallel


def test_results_come_in_the_order_of_the_jobs():
    assert parallel.each(abs, [-3, 2, -1], 2, "abs", "number") == [3, 2, 1]


def test_what_a_job_raises_is_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        parallel.each(int, ["1", "one"], 1, "int", "text")
