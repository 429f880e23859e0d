"""The forest of differences draws points and intervals where the statistics have them."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from ubt_utils.report import plots
from ubt_utils.report.plots.style import INK

matplotlib.use("Agg")
NAMES = ["clusters", "asr", "asr_low", "asr_high", "clean_accuracy"]
DIFFERENCES = pd.DataFrame(
    [
        ("tbar", 2, -0.02, -0.03, -0.01, 0.010, 0.005, 0.020),  # beats UBT in both
        ("par", 6, 0.0, -0.0002, 0.0002, -0.001, -0.010, 0.008),
        ("anp", 1, 0.30, np.nan, np.nan, -0.020, np.nan, np.nan),
        ("none", 6, 0.95, 0.90, 0.99, -0.050, -0.060, -0.040),
    ],
    columns=["defense", *NAMES, "clean_accuracy_low", "clean_accuracy_high"],
).set_index("defense")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def points(axis):
    return [box.lines[0] for box in axis.containers]


def bars(axis):
    """The ends of each interval, in points; None where there is none."""
    found = []
    for box in axis.containers:
        ends = [tuple(np.round(segment[:, 0], 6)) for c in box.lines[2] for segment in c.get_segments()]
        found.append(ends[0] if ends else None)
    return found


def test_the_forest_has_a_row_a_rival_with_its_clusters():
    asr, ca = plots.forest(DIFFERENCES).axes
    assert [t.get_text() for t in asr.get_yticklabels()] == [
        "tbar (2 clusters)", "par (6 clusters)", "anp (1 cluster)", "undefended (6 clusters)"
    ]  # fmt: skip
    low, high = asr.get_ylim()
    assert low > high  # the first row is on top
    assert (asr.get_title(loc="left"), ca.get_title(loc="left")) == (
        "ASR, rival − ubt",
        "clean accuracy, rival − ubt",
    )


def test_points_and_intervals_are_where_the_statistics_have_them():
    asr, ca = plots.forest(DIFFERENCES).axes
    assert [line.get_xdata()[0] for line in points(asr)] == pytest.approx([-2, 0, 30, 95])
    assert [line.get_ydata()[0] for line in points(ca)] == [0, 1, 2, 3]
    assert bars(asr) == [(-3, -1), (-0.02, 0.02), None, (90, 99)]
    assert bars(ca) == [(0.5, 2), (-1, 0.8), None, (-6, -4)]


def test_a_difference_that_leaves_out_zero_is_filled_in_the_color_of_the_better():
    asr, ca = plots.forest(DIFFERENCES).axes
    black, green = INK.lower(), plots.LINES["ubt"].lower()
    for axis in (asr, ca):
        faces = [to_hex(line.get_markerfacecolor()) for line in points(axis)]
        assert faces == [black, "#ffffff", "#ffffff", green]
        assert [list(axis.lines[0].get_xdata()), axis.get_xscale()] == [[0, 0], "linear"]


def test_numbers_stand_beside_and_zero_has_no_sign():
    asr, ca = plots.forest(DIFFERENCES).axes
    assert [t.get_text() for t in asr.texts] == [
        "−2.0  [−3.0, −1.0]", "0.0  [0.0, 0.0]", "+30.0", "+95.0  [+90.0, +99.0]"
    ]  # fmt: skip
    assert asr.get_xlabel().startswith("← rival better") and ca.get_xlabel().startswith("← ubt better")
