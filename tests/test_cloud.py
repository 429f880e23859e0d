"""The cloud of what was tried draws every setting where its trials say."""

import json

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from tried import SOURCE, TRIALS, trials

from ubt_utils.report import plots

matplotlib.use("Agg")
DONE = ("met every victim", "met some victims", "its source's setting", "diverged")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def panel(figure, name):
    return next(axis for axis in figure.axes if axis.get_title(loc="left") == name)


def dots(axis, label):
    """Where the marks of one kind are, in percent."""
    found = [one for one in axis.collections if one.get_label() == label]
    return sorted(tuple(np.round(one.get_offsets()[0], 6)) for one in found)


def mark(axis, label):
    (found,) = [one for one in axis.collections if one.get_label() == label]
    return found


def test_the_cloud_has_a_panel_a_defense_and_ubts_comes_first():
    figure = plots.cloud(trials(), columns=2)
    shown = [axis for axis in figure.axes if axis.axison and axis.get_title(loc="left")]
    assert [axis.get_title(loc="left") for axis in shown] == ["ubt", "negation", "par"]
    assert [axis.texts[0].get_text() for axis in shown] == ["1 of 1 hold", "0 of 2 hold", "2 of 3 hold"]
    assert sum(not axis.axison for axis in figure.axes) == 1  # the rest of the second row
    assert [axis.get_xlabel() for axis in shown] == ["", "ASR (%)", "ASR (%)"]  # where nothing is below


def test_rows_are_as_even_as_they_can_be():
    seven = [(f"d{i}", {"lr": 1.0}, [(0.1, 0.5, 0.1)] * 4) for i in range(7)]
    rows = [axis.get_subplotspec().rowspan.start for axis in plots.cloud(trials(seven)).axes[:7]]
    assert rows == [0, 0, 0, 0, 1, 1, 1]


def test_every_setting_is_a_mark_at_its_means():
    figure = plots.cloud(trials())
    par, negation = panel(figure, "par"), panel(figure, "negation")
    assert dots(par, "met every victim") == [(2, 41), (4, 60)]
    assert dots(par, "its source's setting") == [(2, 52)] and dots(par, "met some victims") == []
    assert dots(negation, "met every victim") == [(85, 60)] and dots(negation, "diverged") == [(100, 0)]
    assert sum(len(dots(axis, label)) for axis in figure.axes for label in DONE) == len(TRIALS)


def test_the_chosen_setting_is_ringed():
    figure = plots.cloud(trials())
    assert dots(panel(figure, "par"), "chosen") == [(2, 41)]
    assert dots(panel(figure, "ubt"), "chosen") == [(0, 39)]
    assert dots(panel(figure, "negation"), "chosen") == [(85, 60)]
    assert mark(panel(figure, "par"), "chosen").get_facecolor().size == 0  # a ring


def test_the_sources_setting_is_ringed_where_it_is_chosen():
    figure = plots.cloud(trials([("par", SOURCE, [(0.0, 0.5, 0.3)] * 4)]))
    axis = panel(figure, "par")
    assert dots(axis, "its source's setting") == dots(axis, "chosen") == [(0, 50)]
    diamond = mark(axis, "its source's setting")
    assert to_hex(diamond.get_facecolor()[0]) == to_hex(diamond.get_edgecolor()[0])  # it met every victim


def test_hollow_is_what_met_some_victims_alone():
    figure = plots.cloud(trials([*TRIALS, ("ubt", {"lr": 2e-3}, [(0.3, 0.5, 0.1)] * 2)]))
    assert to_hex(mark(panel(figure, "ubt"), "met some victims").get_facecolor()[0]) == "#ffffff"
    assert to_hex(mark(panel(figure, "par"), "its source's setting").get_facecolor()[0]) == "#ffffff"
    assert to_hex(mark(panel(figure, "ubt"), "met every victim").get_facecolor()[0]) != "#ffffff"


def test_the_color_is_what_it_paid_on_one_scale_of_logarithms():
    figure = plots.cloud(trials())
    bar = next(axis for axis in figure.axes if "paid" in axis.get_ylabel())
    assert bar.get_ylim() == pytest.approx((0.02, 0.3)) and bar.get_yscale() == "log"
    ticks = [t.get_text() for t in bar.get_yticklabels() if t.get_text()]
    assert ticks == ["2 %", "5 %", "10 %", "20 %"]
    edge = {
        n: to_hex(mark(panel(figure, n), "met every victim").get_edgecolor()[0]) for n in ("negation", "ubt")
    }
    assert len(set(edge.values())) == 2
    dearest = mark(panel(figure, "par"), "its source's setting").get_edgecolor()[0]
    assert sum(dearest[:3]) < sum(mark(panel(figure, "negation"), "met every victim").get_edgecolor()[0][:3])


def test_the_bar_is_a_line_and_what_is_within_it_is_shaded():
    for axis in plots.cloud(trials()).axes[:3]:
        assert [list(line.get_xdata()) for line in axis.lines] == [[5, 5]]
        (shade,) = axis.patches
        assert shade.get_x() + shade.get_width() == 5 and shade.get_x() < axis.get_xlim()[0]


def test_the_legend_names_the_marks_that_are_there():
    figure = plots.cloud(trials())
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "met every victim", "its source's setting", "diverged", "chosen"
    ]  # fmt: skip


def test_the_cloud_of_a_defense_that_only_diverged_is_drawn():
    table = trials([("par", SOURCE, [(1.0, 0.0, np.nan)] * 2)])
    axis = panel(plots.cloud(table), "par")
    assert json.loads(table.setting[0]) == SOURCE
    assert dots(axis, "its source's setting") == dots(axis, "chosen") == [(100, 0)]


def test_the_ring_answers_the_question_that_is_asked():
    par = panel(plots.cloud(trials()), "par")
    assert dots(par, "chosen") == [(2, 41)]
    assert dots(panel(plots.cloud(trials(), most=0.12), "par"), "chosen") == [(4, 60)]
    within = trials().assign(undefended=0.63)  # of which one setting costs 3 points, the other 22
    assert dots(panel(plots.cloud(within, mends=True), "par"), "chosen") == [(4, 60)]
    none = panel(plots.cloud(trials(), most=0.001), "par")
    assert all(len(one.get_offsets()) == 0 for one in none.collections if one.get_label() == "chosen")
