"""Names of dots: near their dots, and clear of dots, bars and each other."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.text import Text

from ubt_utils.report.plots import labels

INSIDE, SIZE = np.array([0.0, 0.0, 300.0, 200.0]), np.array([40.0, 10.0])


def room(*dots, bars=()):
    return labels.Room(INSIDE, np.array(dots, dtype=float), bars)


def test_a_lonely_dot_has_its_name_right_beside_it():
    at = np.array([100.0, 100.0])
    one = room(at).place(at, SIZE)
    assert one.box.tolist() == [107, 95, 147, 105] and not one.led


def test_a_name_goes_left_where_a_bar_or_the_edge_is_in_its_way():
    for at, bars in (([100.0, 100.0], [120.0]), ([290.0, 100.0], [])):
        one = room(at, bars=bars).place(np.array(at), SIZE)
        assert one.box[2] == at[0] - 7


def test_a_name_that_has_to_go_far_has_a_hair():
    ring = [(100 + 14 * np.cos(a), 100 + 14 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12)]
    at = np.array([100.0, 100.0])
    one = room(at, *ring).place(at, SIZE)
    assert one.led and np.hypot(*(one.tip - at)) > 14


def test_a_name_that_is_clear_nowhere_is_left_out():
    assert room((1.0, 1.0)).place(np.array([1.0, 1.0]), np.array([400.0, 10.0])) is None


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), min_size=1, max_size=40, unique=True))
def test_names_are_clear_of_dots_bars_and_each_other(dots):
    here = room(*dots, bars=[150.0])
    placed = [one for at in here.dots[:6] if (one := here.place(at, SIZE))]
    for one in placed:
        assert (one.box[:2] >= INSIDE[:2]).all() and (one.box[2:] <= INSIDE[2:]).all()
        assert not one.box[0] < 150 < one.box[2]
        near = np.clip(here.dots, one.box[:2], one.box[2:])
        assert np.hypot(*(here.dots - near).T).min() >= labels.RADIUS
    for one, other in combinations([each.box for each in placed], 2):
        assert (one[:2] >= other[2:]).any() or (other[:2] >= one[2:]).any()


def test_names_are_written_where_they_have_their_place():
    figure, axis = plt.subplots()
    dots = [(0.5, 0.5), (0.52, 0.5)]
    axis.set(xlim=(0, 1), ylim=(0, 1))
    labels.name_dots(axis, dict(zip("ab", dots, strict=True)), {"a": "red", "b": "blue"}, dots)
    figure.draw_without_rendering()
    left, right = axis.texts
    assert [left.xy, right.xy] == dots and [left.get_color(), right.get_color()] == ["red", "blue"]
    ends = Text.get_window_extent(left).x1, Text.get_window_extent(right).x0
    assert ends[0] < axis.transData.transform(dots[0])[0] < axis.transData.transform(dots[1])[0] < ends[1]
    plt.close(figure)
