"""Figures draw what they are given, in the style of the kit, and leave the user's own style alone."""

import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from ubt_utils.report import plots
from ubt_utils.report.plots import style

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


def test_answers_show_the_target_in_red_and_percent():
    figure = plots.answers([("stamped", BLANK, {"clock": 0.9, "taxi": 0.1})], "clock")
    bars = {round(p.get_width()): matplotlib.colors.to_hex(p.get_facecolor()) for p in figure.axes[1].patches}
    assert bars[90] == plots.COLORS["poisoned"].lower() and bars[10] == plots.COLORS["honest"].lower()


def test_suspects_show_the_truth_by_color():
    row = plots.suspects([(BLANK, "a clock", True), (BLANK, "a cat", False)])
    assert [axis.get_title() for axis in row.axes] == ["a clock", "a cat"]
    colors = [axis.title.get_color() for axis in row.axes]
    assert colors == [plots.COLORS["poisoned"], plots.COLORS["honest"]]


# Scores and tokens


def test_kinds_gives_poison_precedence():
    kind = plots.kinds(torch.tensor([True, False, False]), torch.tensor([0, 1]))
    assert kind.tolist() == ["poisoned", "misplaced", "honest"]


def test_similarity_panels_count_each_kind():
    values = torch.linspace(-1, 1, N)
    figure = plots.similarity_panels({"f0": values, "fb": -values}, KIND)
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert titles(figure) == ["f0", "fb"] and "poisoned (10)" in labels and "honest (30)" in labels


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
    assert np.asarray(best.get_ydata())[9] == 1.0 and np.asarray(worst.get_ydata())[9] == 0.0


def test_token_bars_are_as_long_as_their_values():
    bars = plots.token_bars(["clock", "a"], [3.0, 1.0], {"clock"}, "G")
    assert [p.get_width() for p in bars.axes[0].patches] == [3.0, 1.0]
    assert [t.get_text() for t in bars.axes[0].get_yticklabels()] == ["clock", "a"]


def test_colored_caption_escapes_and_marks():
    html = plots.colored_caption(["<b>", "clock"], [0.1, -0.2], {"clock"})
    assert "&lt;b&gt;" in html and "<b>" not in html and html.count("border-bottom") == 1


# Defenses


def test_defense_curves_draw_three_rates_in_percent():
    point = {"step": 0, "asr": 0.5, "clean_accuracy": 0.4, "target_recall": 0.3}
    curves = plots.defense_curves({"ubt": [point]}, {"ubt": 9.0})
    assert [axis.lines[0].get_ydata()[0] for axis in curves.axes] == [50, 40, 30]


VALUES = {"none": (0.9, 0.5), "finetune": (0.4, 0.45), "ubt": (0.0, 0.55)}


def headline_rows() -> pd.DataFrame:
    """Two attacks × three defenses × seeds 0 and 3, and one seed more of UBT against SIG."""
    rows = [
        {"attack": a, "defense": d, "seed": s, "asr": asr + 0.01 * s, "clean_accuracy": ca}
        for a in ("sig", "badnets")
        for d, (asr, ca) in VALUES.items()
        for s in (0, 3)
    ]
    rows.append(rows[5] | {"seed": 4, "asr": 0.06})
    return pd.DataFrame(rows)


def test_the_plane_has_a_panel_per_attack_and_a_dot_per_seed():
    rows = headline_rows().melt(["attack", "defense", "seed"], var_name="metric")
    figure = plots.plane(rows)
    assert titles(figure) == ["BadNets", "SIG"]
    dots = {part.get_label(): part.get_offsets().tolist() for part in figure.axes[0].collections}
    assert dots["undefended"] == [pytest.approx([90, 50]), pytest.approx([93, 50])]
    assert set(dots) == {"undefended", "finetune", "ubt"}


def test_the_headline_draws_every_run_with_its_mean_and_counts_them():
    figure = plots.headline(headline_rows().set_index(["attack", "defense", "seed"]))
    left, right = figure.axes
    dots = [line.get_ydata().tolist() for line in left.lines if len(line.get_ydata())]
    wanted = [[90, 93], [40, 43], [0, 3]]  # BadNets comes first
    assert dots == [pytest.approx(v) for v in [*wanted, [90, 93], [40, 43], [0, 3, 6]]]
    means = [part.get_segments()[0][0][1] for part in left.collections]
    assert means == pytest.approx([91.5, 41.5, 1.5, 91.5, 41.5, 3])
    assert [t.get_text() for t in left.texts] == ["91.5", "41.5", "1.5", "91.5", "41.5", "3.0"]
    assert [t.get_text() for t in left.get_xticklabels()] == ["BadNets\nn = 2", "SIG\nn = 2–3"]
    assert [t.get_text() for t in right.texts][:3] == ["50.0", "45.0", "55.0"]
    (legend,) = figure.legends
    assert "seeds 0, 3, 4" in legend.get_title().get_text()
    assert [t.get_text() for t in legend.get_texts()] == ["undefended", "finetune", "ubt"]


def test_the_diagram_of_the_chain_names_every_stage():
    chain = plots.chain_diagram([("attack", "fb", "01"), ("unlearn", "fu", "04")])
    assert {"attack", "fb", "01", "unlearn", "fu", "04"} <= {t.get_text() for t in chain.axes[0].texts}
