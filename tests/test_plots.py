"""Figures draw what they are given, in the style of the kit, and leave the user's own style alone."""

import re
import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text

from ubt_utils.report import plots
from ubt_utils.report.plots import style
from ubt_utils.report.plots.style import legible
from ubt_utils.ubt.settings import Select

matplotlib.use("Agg")
N = 60
KIND = np.array(["poisoned"] * 10 + ["misplaced"] * 20 + ["honest"] * 30, dtype=object)
TRUTH = torch.arange(N) < 10
BLANK = torch.zeros(3, 4, 4)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def titles(figure):
    return [axis.get_title(loc="left") or axis.get_title() for axis in figure.axes]


# The style


def test_importing_the_plots_leaves_matplotlib_as_it_was():
    code = (
        "import matplotlib\n"
        "before = dict(matplotlib.rcParams)\n"
        "import ubt_utils.report.plots\n"
        "after = dict(matplotlib.rcParams)\n"
        "assert after == before, [name for name in before if before[name] != after[name]]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_figure_has_the_style_of_the_kit_whatever_the_user_has():
    own = {"axes.spines.top": True, "axes.grid": False, "xtick.color": "#ff0000", "font.size": 30.0}
    with matplotlib.rc_context(own):
        before = dict(matplotlib.rcParams)
        figure = plots.token_bars(["clock", "a"], [3.0, 1.0], {"clock"}, "G")
        assert dict(matplotlib.rcParams) == before
        figure.canvas.draw()
    (axis,) = figure.axes
    assert not axis.spines["top"].get_visible() and axis.xaxis.label.get_size() == 9.5
    assert {label.get_color() for label in axis.get_xticklabels()} == {"#444444"}
    assert {line.get_color() for line in axis.get_xgridlines()} == {"#E6E6E6"}


def test_a_function_that_fails_leaves_the_style_alone_and_keeps_its_name():
    @style.styled
    def draw() -> plt.Figure:
        """Draws."""
        raise ValueError("no")

    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError, match="no"):
        draw()
    assert dict(matplotlib.rcParams) == before and (draw.__name__, draw.__doc__) == ("draw", "Draws.")


def test_every_function_that_returns_a_figure_is_styled():
    drawing = {n for n in plots.__all__ if getattr(plots, n).__class__.__name__ == "function"} - {"save"}
    drawing = {n for n in drawing if getattr(plots, n).__annotations__.get("return") == "Figure"}
    assert len(drawing) >= 25 and all(hasattr(getattr(plots, n), "__wrapped__") for n in drawing)


def test_save_writes_png_and_pdf_in_the_style(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    before = dict(matplotlib.rcParams)
    figure = plt.figure(figsize=(1, 1))
    assert plots.save(figure, "one") is figure and not plt.fignum_exists(figure.number)
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"one.png", "one.pdf"}
    assert plt.imread(tmp_path / "figures" / "one.png").shape[:2] == (160, 160)  # dots an inch
    assert dict(matplotlib.rcParams) == before


# Pairs


def test_a_gallery_has_its_captions_once_above_the_first_row():
    pictures = [BLANK, BLANK + 1]
    figure = plots.gallery({"one": pictures, "two": pictures}, ["left", "right"])
    assert [axis.get_title() for axis in figure.axes] == ["left", "right", "", ""]


def test_a_gallery_names_groups_of_columns_above_them():
    figure = plots.gallery({"one": [BLANK] * 3}, ["a", "b", "c"], {"cropped": 2, "none": 0, "pale": 1})
    *pictures, left, right = figure.axes
    assert [axis.get_title() for axis in pictures] == ["a", "b", "c"]
    assert [axis.texts[0].get_text() for axis in (left, right)] == ["cropped", "pale"]
    spans = [axis.get_subplotspec().colspan for axis in (left, right)]
    assert [list(span) for span in spans] == [[0, 1], [2]]
    with pytest.raises(ValueError, match="2 of 3 columns"):
        plots.gallery({"one": [BLANK] * 3}, ["a", "b", "c"], {"cropped": 2})


def test_answers_show_the_target_in_red_and_percent():
    figure = plots.answers([("stamped", BLANK, {"clock": 0.9, "taxi": 0.1})], "clock")
    bars = {round(p.get_width()): matplotlib.colors.to_hex(p.get_facecolor()) for p in figure.axes[1].patches}
    assert bars[90] == plots.COLORS["poisoned"].lower() and bars[10] == plots.COLORS["honest"].lower()


def test_answers_stand_still_however_long_the_names_are():
    chances = ({"clock": 0.9}, {"Japanese free of charge button": 0.9})
    short, long = (plots.answers([("", BLANK, chance)], "clock") for chance in chances)
    places = [[axis.get_position().bounds for axis in figure.axes] for figure in (short, long)]
    assert places[0] == places[1]


def test_suspects_show_the_truth_by_color():
    row = plots.suspects([(BLANK, "a clock", True), (BLANK, "a cat", False)])
    assert [axis.get_title() for axis in row.axes] == ["a clock", "a cat"]
    colors = [axis.title.get_color() for axis in row.axes]
    assert colors == [legible(plots.COLORS["poisoned"]), legible(plots.COLORS["honest"])]


# Scores and tokens


def test_kinds_gives_poison_precedence():
    kind = plots.kinds(torch.tensor([True, False, False]), torch.tensor([0, 1]))
    assert kind.tolist() == ["poisoned", "misplaced", "honest"]


def test_similarity_panels_count_each_kind():
    values = torch.linspace(-1, 1, N)
    figure = plots.similarity_panels({"f0": values, "fb": -values}, KIND)
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert titles(figure) == ["f0", "fb"] and labels == ["honest (30)", "misplaced (20)", "poisoned (10)"]
    drawn = [patch.get_data().values for patch in figure.axes[0].patches]
    assert [counts[counts >= 1].sum() for counts in drawn] == [30, 20, 10]  # a poisoned pair is seen as one
    assert figure.axes[0].get_yscale() == "log" and 0.5 < figure.axes[0].get_ylim()[0] < 1


def test_similarity_panels_wrap_name_their_values_and_draw_the_bounds_that_are_given():
    values = torch.linspace(-1, 1, N)
    panels = {f"d{i}": values + i for i in range(4)}
    figure = plots.similarity_panels(panels, KIND, "lost", {"d1": 0.25})
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) == 4 and {axis.get_subplotspec().rowspan.start for axis in shown} == {0, 1}
    assert {axis.get_xlabel() for axis in shown} == {"lost"}
    assert all(label.get_visible() for axis in shown for label in axis.get_xticklabels())
    assert [[list(line.get_xdata()) for line in axis.lines] for axis in shown] == [[], [[0.25, 0.25]], [], []]


def test_similarity_panels_say_what_lies_beyond_a_bound_and_on_which_side():
    panels = {"d": torch.linspace(-1, 1, N)}
    for says, side in (("← the pool", "right"), ("a quarter →", "left")):
        (axis,) = plots.similarity_panels(panels, KIND, "lost", {"d": 0.25}, says).axes
        (said,) = axis.texts
        assert said.get_text() == says and said.get_ha() == side and said.xy[0] == 0.25


def test_a_word_is_named_once_at_its_loudest_and_names_keep_clear_of_each_other():
    asked = [
        {"word": w, "surprise": 40.0 + i, "lost": 0.0, "carriers": 8, "after": 0}
        for i, w in enumerate("abcda")
    ]
    axis = plots.agreement(asked, Select()).axes[0]
    names = [t for t in axis.texts if t.get_text() in set("abcd")]
    assert sorted(t.get_text() for t in names) == list("abcd")
    assert next(t.xy for t in names if t.get_text() == "a") == (0.0, 44.0)
    boxes = [Text.get_window_extent(t) for t in names]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    dots = axis.transData.transform([(one["lost"], one["surprise"]) for one in asked])
    assert not any(box.contains(*dot) for box in boxes for dot in dots)


def test_sufferers_have_a_line_for_each_bound():
    drop, mask = torch.tensor([0.1, 0.9]), torch.tensor([False, True])
    (axis,) = plots.sufferers(drop, mask, mask, 0.35, 0.5).axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[0.35, 0.35], [0.5, 0.5]]
    assert len(plots.sufferers(drop, mask, mask, 0.35).axes[0].lines) == 1


def test_overfit_path_draws_the_median_of_each_kind():
    path = torch.stack([torch.zeros(N), torch.arange(N).float()])
    axis = plots.overfit_path(torch.tensor([0, 5]), path, KIND).axes[0]
    assert [line.get_ydata()[-1] for line in axis.lines] == [4.5, 19.5, 44.5]


def test_overfit_path_of_a_set_without_misplaced_captions_has_two_lines():
    path, kind = torch.stack([torch.zeros(N), torch.ones(N)]), np.where(KIND == "misplaced", "honest", KIND)
    assert len(plots.overfit_path(torch.tensor([0, 5]), path, kind).axes[0].lines) == 2


def test_ranking_of_fewer_pairs_than_are_asked_for_ends_with_them():
    few = torch.tensor([True, False, False, True])
    figure = plots.ranking({"ubt": few.float(), "other": -few.float()}, few, "ubt", 8)
    assert [len(line.get_ydata()) for line in figure.axes[1].lines[:2]] == [4, 4]


def test_ranking_draws_precision_at_every_k():
    figure = plots.ranking({"ubt": TRUTH.float(), "other": -TRUTH.float()}, TRUTH, "ubt", 8)
    best, worst = figure.axes[1].lines[:2]
    assert [best.get_color(), worst.get_color()] == [plots.LINES["ubt"], style.OTHER]  # gray all but one
    assert [t.get_text() for t in figure.axes[1].texts] == ["ubt", "other"]
    assert np.asarray(best.get_ydata())[9] == 1.0 and np.asarray(worst.get_ydata())[9] == 0.0


def test_token_bars_are_as_long_as_their_values():
    bars = plots.token_bars(["clock", "a"], [3.0, 1.0], {"clock"}, "G")
    assert [p.get_width() for p in bars.axes[0].patches] == [3.0, 1.0]
    assert [t.get_text() for t in bars.axes[0].get_yticklabels()] == ["clock", "a"]


def test_colored_caption_escapes_and_marks():
    html = plots.colored_caption(["<b>", "clock"], [0.1, -0.2], {"clock"}, top=0.2)
    assert "&lt;b&gt;" in html and "<b>" not in html and html.count("border-bottom") == 1
    assert "+0.10" in html and "-0.20" in html


def test_captions_of_one_scale_have_the_same_color_for_the_same_drop():
    def shades(drops):
        return re.findall(
            r"rgba\([\d,]+,([\d.]+)\)", plots.colored_caption(["a", "b"], drops, set(), top=0.4)
        )

    assert shades([0.1, 0.4]) == ["0.21", "0.85"] and shades([0.1, 0.2])[0] == "0.21"


# Defenses


def test_defense_curves_draw_three_rates_in_percent():
    point = {"step": 0, "asr": 0.5, "clean_accuracy": 0.4, "target_recall": 0.3}
    curves = plots.defense_curves({"ubt": [point]}, {"ubt": 9.0})
    assert [axis.lines[0].get_ydata()[0] for axis in curves.axes] == [50, 40, 30]


def test_the_path_of_one_weight_stands_in_front_of_the_others():
    rows = [{"weight": w, "step": step, "asr": w / 10 + step / 10} for w in (0.0, 1.0) for step in (0, 1)]
    table = pd.DataFrame(rows).assign(robust_accuracy=0.1, clean_accuracy=0.2, target_recall=0.3)
    figure = plots.weight_path(table, 1.0)
    assert len(figure.axes) == 4 and figure._suptitle.get_text() == "w = 1"
    named = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert named == [["w = 0", "w = 1"]] * 4
    assert np.ptp(figure.axes[2].get_ylim()) < 10 < np.ptp(figure.axes[0].get_ylim())  # CA moves by points
    behind, front = figure.axes[0].lines
    assert np.mean(matplotlib.colors.to_rgb(behind.get_color())) > 0.6  # not taken for black
    assert list(front.get_ydata()) == [10, 20] and list(behind.get_ydata()) == [0, 10]
    assert front.get_color() == plots.LINES["ubt"] and front.zorder > behind.zorder


def test_a_curve_of_a_defense_without_a_color_is_drawn_too():
    point = {"step": 0, "asr": 0.5, "clean_accuracy": 0.4, "target_recall": 0.3}
    curves = plots.defense_curves({"ubt-retain": [point]}, {"ubt-retain": 9.0})
    assert [t.get_text() for t in curves.legends[0].get_texts()] == ["ubt-retain, 9 s in all"]


# The study

RATES = {"none": (0.9, 0.5), "ubt-retain": (0.8, 0.52), "ubt": (0.0, 0.51)}


def study_runs() -> pd.DataFrame:
    """Two poison rates × an attack × three defenses × two seeds, and two clean twins."""
    rows = [
        {"profile": f"p{rate}", "attack": "sig", "defense": d, "seed": s, "poison_rate": rate,
         "asr": asr + 0.05 * s, "clean_accuracy": ca}
        for rate in (0.003, 0.01) for d, (asr, ca) in RATES.items() for s in (0, 1)
    ]  # fmt: skip
    clean = {"profile": "p0.01", "attack": "none", "poison_rate": 0.0, "asr": None}
    rows += [clean | {"defense": "none", "seed": s, "clean_accuracy": 0.5 + 0.1 * s} for s in (0, 1)]
    rows.append(clean | {"defense": "ubt", "seed": 0, "clean_accuracy": 0.1})  # no twin, but a defended one
    return pd.DataFrame(rows).set_index(["profile", "attack", "defense", "seed"])


def test_the_study_has_a_panel_a_rate_and_a_dot_a_run():
    figure = plots.study(study_runs())
    assert titles(figure) == ["0.3% of D poisoned", "1.0% of D poisoned"]
    for axis in figure.axes:
        dots = {line.get_label(): line for line in axis.lines}
        assert sorted(dots["undefended (4)"].get_xdata()) == pytest.approx([90, 95])
        assert list(dots["ubt (4)"].get_ydata()) == pytest.approx([51, 51])
        assert dots["clean twin"].get_ydata()[0] == pytest.approx(55)
    assert len({line.get_marker() for line in figure.axes[0].lines[:3]}) == 3
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert set(names) == {"undefended (4)", "ubt (4)", "ubt-retain (4)", "clean twin"}


def test_the_study_of_one_rate_without_twins_is_one_panel():
    runs = study_runs()
    (axis,) = plots.study(runs[(runs.poison_rate == 0.01)]).axes
    assert "clean twin" not in {line.get_label() for line in axis.lines}


def budget_ways() -> pd.DataFrame:
    """Two runs of ubt on their way, and merge, which costs nothing."""
    key = {"profile": "p", "attack": "sig", "poison_rate": 0.01}
    rows = [
        key
        | {"defense": "ubt", "seed": s, "step": i, "part": part, "asr": asr + 0.1 * s, "clean_accuracy": 0.5}
        for s in (0, 1)
        for i, (part, asr) in enumerate([(0.1, 0.9), (0.2, 0.0)])
    ]
    merged = {"defense": "merge", "seed": 0, "step": 0, "part": 0.0, "asr": 0.2, "clean_accuracy": 0.4}
    return pd.DataFrame([*rows, key | merged, key | merged | {"seed": 1, "part": None}])


def test_the_budget_draws_means_over_the_part_of_the_victims_cost():
    upper, lower = plots.budget(budget_ways()).axes
    lines = {line.get_label(): line for line in upper.lines if not line.get_label().startswith("_")}
    assert list(lines["ubt (2)"].get_xdata()) == [0.1, 0.2]
    assert list(lines["ubt (2)"].get_ydata()) == pytest.approx([95, 5])
    assert list(lines["merge (1)"].get_xdata()) == [0.003]  # what costs nothing stands at the edge
    assert sum(line.get_label().startswith("_") for line in upper.lines) == 3  # each run
    assert {t.get_text(): t.xy for t in lower.texts} == {"ubt (2)": (0.2, 50), "merge (1)": (0.003, 40)}
    assert upper.get_xscale() == "log" and lower.get_xlabel() == "part of the victim's cost"


def test_the_rungs_stand_in_their_order_with_every_run():
    runs = study_runs()
    order = ["ubt-pool", "ubt-retain", "ubt"]
    asr, ca = plots.rungs(runs[runs.poison_rate == 0.01], order, {"ubt": "the whole method"}).axes
    assert [t.get_text() for t in asr.get_yticklabels()] == ["ubt-retain (2)", "the whole method (2)"]
    assert [list(line.get_xdata()) for line in asr.lines] == [pytest.approx([80, 85]), pytest.approx([0, 5])]
    assert [t.get_text() for t in asr.texts] == ["82.5", "2.5"] and len(ca.lines) == 2


# The chain


def test_the_diagram_of_the_chain_names_every_stage():
    chain = plots.chain_diagram([("attack", "fb", "01"), ("unlearn", "fu", "04")])
    assert {"attack", "fb", "01", "unlearn", "fu", "04"} <= {t.get_text() for t in chain.axes[0].texts}


def test_the_diagram_of_the_chain_gives_every_stage_the_same_room():
    two, three = (plots.chain_diagram([("attack", "fb", "01")] * n).get_size_inches()[0] for n in (2, 3))
    assert three / two == pytest.approx(1.5)


# Detection, and single runs


def detected() -> pd.DataFrame:
    rows = [
        ("mini", "none", 0, 0.0, np.nan, 0.4),
        ("mini", "sig", 0, 0.01, 0.9, 0.3),
        ("mini-rare", "sig", 0, 0.003, 0.5, 0.2),
        ("mini-rare", "sig", 1, 0.003, 0.6, 0.1),
    ]
    columns = ["profile", "attack", "seed", "poison_rate", "lost", "honest"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:3])


def test_margins_have_a_row_a_poison_rate_and_two_marks_a_set():
    how = Select()
    (axis,) = plots.margins(detected(), how).axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["clean (1)", "0.3% (2)", "1.0% (1)"]
    marks = [line for line in axis.lines if line.get_marker() in "oD"]
    target, other = ([list(m.get_xdata()) for m in marks if m.get_marker() == one] for one in "Do")
    assert target == [[], [0.5, 0.6], [0.9]] and other == [[0.4], [0.2, 0.1], [0.3]]
    bars = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
    assert bars == [how.lost_of_many, how.lost]


def test_runs_before_and_after_stand_worst_first_with_the_bar():
    table = pd.DataFrame({"undefended": [0.9, 0.8], "ubt": [0.0, 0.7]}, index=["holds", "fails"])
    (axis,) = plots.before_after({"edges": table}).axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["fails", "holds"]
    before, after = (line for line in axis.lines if line.get_marker() in "os")
    assert list(before.get_xdata()) == pytest.approx([80, 90]) and list(after.get_xdata()) == [70, 0]
    assert before.get_markersize() > after.get_markersize()  # seen where nothing was removed
    assert [list(line.get_xdata()) for line in axis.lines if line.get_linestyle() == ":"] == [[5, 5]]


def test_changes_have_every_run_and_the_mean_with_its_sign():
    table = pd.DataFrame({"target_recall": [-0.2, 0.0, 0.1]}, index=["BadNets", "BadNets", "SIG"])
    (axis,) = plots.changes(table, {"target_recall": "target recall"}).axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["BadNets (2)", "SIG (1)"]
    assert [t.get_text() for t in axis.texts] == ["−10.0", "+10.0"]
    assert [sorted(line.get_xdata()) for line in axis.lines[1:]] == [pytest.approx([-20, 0]), [10]]


# Diagrams


def texts(figure) -> str:
    return " ".join(text.get_text() for axis in figure.axes for text in axis.texts)


def test_the_two_towers_show_the_poisoned_pair_in_red():
    shown = plots.two_towers([(BLANK, "a cat"), (BLANK, "a clock"), (BLANK, "a dog")], 1)
    red = [t.get_text() for t in shown.axes[0].texts if t.get_color() == plots.COLORS["poisoned"]]
    assert red[0] == "a clock" and "stamped" in red[1] and "a cat" in texts(shown)
    assert "a row per picture" in texts(shown) and "a column per caption" in texts(shown)


def test_diagrams_name_what_they_explain():
    assert "$s_1$ of half 0" in texts(plots.crossed_halves())
    assert "“clock”" in texts(plots.embedding_space("clock"))
    assert {"attacker", "victim", "defender"} <= {t.get_text() for t in plots.who_holds_what().axes[0].texts}


def test_a_pair_may_be_of_a_third_kind():
    (axis,) = plots.suspects([(BLANK, "a cat", "misplaced")]).axes
    assert axis.title.get_color() == legible(plots.COLORS["misplaced"])
