"""Looks, palettes and labels that keep clear: what all figures share."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from ubt_utils.report import plots
from ubt_utils.report.plots import style

matplotlib.use("Agg")
APART = 15  # steps of CIE lightness that are told apart in gray


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def lightness(color: str) -> float:
    return float(rgb2lab([[to_rgb(color)]])[0, 0, 0])


@pytest.mark.parametrize("palette", style.PALETTES)
def test_kinds_of_pairs_differ_in_gray(palette):
    light = sorted(lightness(style.PALETTES[palette][name]) for name in style.PAIRS)
    assert np.diff(light).min() >= APART
    assert lightness("#ffffff") - light[-1] >= APART  # and from the page


@pytest.mark.parametrize("palette", style.PALETTES)
def test_a_color_means_one_thing(palette):
    colors = dict(style.PALETTES[palette])
    assert colors.pop("none") == colors["undefended"]  # one model, two names
    colors.pop("ubt-cut")  # of the first study, never beside merge
    assert len(set(colors.values())) == len(colors) and style.OTHER not in colors.values()


def test_models_differ_in_gray_by_their_markers():
    names = ["none", *(name for name in style.MARKERS if name not in ("none", "undefended"))]
    forms = style.marks(names)
    assert len({form["marker"] for form in forms.values()}) == len(names)


def test_a_defense_looks_alike_in_every_company_and_one_without_a_color_is_gray():
    alone, among = style.marks(["ubt", "merge"]), style.marks(["anp", "ft_sam", "merge", "ubt"])
    assert alone["merge"] == among["merge"] and alone["ubt"]["color"] == plots.LINES["ubt"]
    assert among["anp"]["color"] == among["ft_sam"]["color"] == style.OTHER
    assert among["anp"]["marker"] != among["ft_sam"]["marker"]


def test_a_look_holds_inside_alone():
    usual = plots.COLORS["poisoned"]
    with style.looking(style.Look(palette="colorblind")):
        assert plots.COLORS["poisoned"] == "#BB5566" and dict(plots.COLORS)["honest"] == "#004488"
    assert plots.COLORS["poisoned"] == usual != "#BB5566"
    with pytest.raises(RuntimeError), style.looking(style.Look(width=3.0)):
        raise RuntimeError
    assert style.size(9.0, 3.0) == (9.0, 3.0)
    with pytest.raises(KeyError):
        plots.COLORS["ubt"]


def test_a_printed_figure_has_the_width_of_the_page_and_a_readable_size():
    with style.looking(style.Look(width=3.25)):
        figure = plots.token_bars(["clock", "a"], [3.0, 1.0], {"clock"}, "G")
    assert figure.get_figwidth() == 3.25 and figure.axes[0].xaxis.label.get_size() >= 7
    assert plots.token_bars(["clock"], [3.0], set(), "G").get_figwidth() == 5.4


def test_serif_letters_are_serif():
    with style.looking(style.Look(width=3.25, serif=True)):
        figure = plots.token_bars(["clock"], [3.0], set(), "G")
        assert figure.axes[0].xaxis.label.get_fontname() == "STIXGeneral"


def test_an_unknown_palette_is_refused():
    with pytest.raises(ValueError, match="unknown palette 'neon'; known: kit, colorblind"):
        style.Look(palette="neon")


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.1, 10))
def test_places_are_spread_in_their_order(wanted, gap):
    places = style.spread(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= gap - 1e-6).all()
    assert np.isclose(places.mean(), np.mean(wanted))  # what touches keeps its middle


def test_places_that_are_clear_already_stay():
    assert style.spread([1.0, 5.0, 3.0], 1.0) == pytest.approx([1, 5, 3])
    assert style.spread([1.0, 1.0], 1.0) == pytest.approx([0.5, 1.5])
    assert style.spread([0.0, 0.0, 0.0, 9.0], 1.0) == pytest.approx([-1, 0, 1, 9])


def test_names_at_lines_keep_clear():
    _, axis = plt.subplots()
    axis.set_ylim(0, 1)
    style.named(axis, dict.fromkeys("abc", (1.0, 0.5)), {"b": "#ff0000"})
    places = sorted(text.xyann[1] for text in axis.texts)
    assert np.diff(places).min() > 0.02 and [t.xy for t in axis.texts] == [(1.0, 0.5)] * 3
    gray, red = (pytest.approx([0.65 * part for part in to_rgb(c)]) for c in (style.FAINT, "#ff0000"))
    assert [t.get_color() for t in axis.texts] == [gray, red, gray]
