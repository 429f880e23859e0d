"""Pictures of the suite and the menu over it, from data made by hand."""

import io

import matplotlib
import pandas as pd
import pytest
import torch
from drawn import ready, stored
from matplotlib import pyplot as plt
from PIL import Image

from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.report import plots, widgets
from ubt_utils.report.plots.style import COLORS
from ubt_utils.ubt.settings import Select

matplotlib.use("Agg")
IMAGE = stored(1, 32, 32)[0]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def swept() -> pd.DataFrame:
    rows = [
        ("badnets", rate, lr, size, asr, rate == 0.01 and lr == 1e-3 and size == 0.3)
        for rate, lr, size, asr in [
            (0.01, 1e-3, 0.3, 0.9), (0.01, 1e-4, 0.3, 0.1), (0.003, 1e-3, 0.3, 0.5), (0.01, 1e-3, 0.15, 0.2),
            (0.003, 1e-4, 0.15, 0.0),
        ]
    ]  # fmt: skip
    rows += [("wanet", 0.01, 1e-3, 32.0, 0.8, True), ("wanet", 0.01, 1e-3, 8.0, 0.0, False)]
    columns = ["attack", "poison_rate", "lr", "strength", "asr", "is_recipe"]
    return pd.DataFrame(rows, columns=columns).assign(strength_name="size")


def suite_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "asr": [0.9, 0.8, 0.6, 0.4],
            "public_asr": [0.0, 0.1, 0.0, 0.0],
            "ca_change": [-0.01, -0.02, 0.0, 0.01],
            "psnr": [10.0, 12.0, 9.0, float("nan")],
            "asr_std": [0.1, 0.0, float("nan"), 0.0],
            "seeds": ["0, 1, 2", "0, 1", "0", "0"],
        },
        index=["badnets", "sig", "label_consistent", "targeted_image"],
    )


def test_strengths_leave_out_what_cannot_be():
    assert list(plots.strengths(ready("blended", alpha=0.5), IMAGE)) == [0.5, 1.0, 1.5]
    assert list(plots.strengths(ready("blended", alpha=0.9), IMAGE)) == [0.5, 1.0]
    assert list(plots.strengths(ready("multi_trigger"), IMAGE)) == [1.0]
    stamped = plots.strengths(ready("sig"), IMAGE)[0.5]
    assert torch.equal(stamped, stamp_bytes(ready("sig").scaled(0.5), IMAGE[None])[0])


def test_the_gallery_has_a_row_per_attack_and_a_picture_per_strength():
    figure = plots.attack_gallery(
        {"sig": ready("sig"), "multi_trigger": ready("multi_trigger")}, IMAGE, blocks=1
    )
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 0, 1, 0]


def test_the_grid_has_a_panel_per_poison_rate_and_a_cell_per_model():
    few, many = plots.sweep_grid(swept(), ["badnets"]).axes
    assert [axis.get_title(loc="left") for axis in (few, many)] == ["BadNets, 0.3%", "BadNets, 1.0%"]
    assert [t.get_text() for t in many.texts] == ["10", "90", "20"]  # strong above weak, none where no model
    assert [t.get_text() for t in many.get_yticklabels()] == ["0.3", "0.15"]
    assert [t.get_text() for t in few.texts] == ["50", "0"]


def test_what_was_tried_is_shown_beside_the_recipe():
    (axis,) = plots.tried(swept()).axes
    others, recipe = axis.lines
    assert list(recipe.get_xdata()) == pytest.approx([80, 90]) and len(others.get_xdata()) == 5
    assert [t.get_text() for t in axis.get_yticklabels()] == ["wanet", "badnets"]


def test_every_carrier_of_a_word_is_drawn_by_pool_and_truth():
    drop = torch.tensor([0.5, 0.1, 0.4, 0.2, 0.3])
    truth, pool = (torch.tensor(v).bool() for v in ([1, 0, 1, 0, 0], [1, 1, 0, 0, 0]))
    (axis,) = plots.sufferers(drop, truth, pool, 0.35).axes
    drawn = [[float(stroke[0][0]) for stroke in part.get_segments()] for part in axis.collections]
    assert drawn == [pytest.approx(v) for v in ([0.5], [0.1], [0.4], [0.2, 0.3])]
    assert [t.get_text() for t in axis.get_yticklabels()][-1] == "outside, not poisoned: 2"
    assert list(axis.lines[0].get_xdata()) == [0.35, 0.35]
    assert min(axis.lines[0].get_ydata()) > axis.get_yticks()[1]  # a bound of those outside the pool alone


def test_words_that_were_looked_at_are_dots_beside_the_bar_of_as_many_pictures():
    rows = (
        ("clock", 9.0, 0.5, 8, 0), ("clock", 8.0, 0.2, 9, 0), ("face", 50.0, 0.1, 64, 1),
        ("cat", 20.0, 0.3, 15, 1), ("cap", 10.0, 0.31, 16, 0),
    )  # fmt: skip
    asked = [dict(zip(("word", "surprise", "lost", "carriers", "after"), row, strict=True)) for row in rows]
    how = Select(lost=0.42, lost_of_many=0.3)
    figure = plots.agreement(asked, how, ["clock"], named=1)
    few, many = (
        {(line.get_xdata()[0], line.get_ydata()[0]): line for line in axis.lines if line.get_marker() in "oD"}
        for axis in figure.axes
    )
    assert set(few) == {(0.5, 9), (0.2, 8), (0.3, 20)} and set(many) == {(0.1, 50), (0.31, 10)}
    looks = {place: (line.get_color(), line.get_marker()) for place, line in (few | many).items()}
    assert looks[0.5, 9] == (COLORS["poisoned"], "D") and looks[0.2, 8] == (COLORS["poisoned"], "o")
    assert few[0.2, 8].get_markerfacecolor() == "white"  # the same word, below its bar
    assert looks[0.3, 20] == looks[0.1, 50] == (COLORS["honest"], "o")
    assert looks[0.31, 10][0] not in COLORS.values()  # it was asked before the found pairs stepped aside
    assert [axis.lines[0].get_xdata()[0] for axis in figure.axes] == [0.42, 0.3]
    names = [{text.get_text() for text in axis.texts} for axis in figure.axes]
    assert names == [{"clock", "cat"}, {"face"}]


def test_the_bars_stand_where_nobody_was_asked():
    assert [len(axis.lines) for axis in plots.agreement([], Select()).axes] == [1, 1]


def test_survival_and_stealth_show_every_attack():
    table = pd.DataFrame({"as sent": [0.9, 0.5], "JPEG 30": [0.1, 0.0]}, index=["sig", "wanet"])
    heat = plots.survival(table).axes[0]
    assert [t.get_text() for t in heat.texts] == ["90", "10", "50", "0"]
    seen, took = plots.stealth_plane(suite_table()).axes
    names = [t.get_text() for t in seen.get_yticklabels()]
    assert names == ["label_consistent (1)", "badnets (3)", "sig (2)"]  # a targeted picture shows nothing
    assert list(seen.lines[0].get_xdata()) == [9, 10, 12]
    assert list(took.lines[0].get_xdata()) == pytest.approx([60, 90, 80])


def test_a_strip_is_the_pictures_side_by_side_pixel_by_pixel():
    red = torch.zeros(3, 32, 32, dtype=torch.uint8)
    red[0] = 255
    shown = Image.open(io.BytesIO(widgets.strip([red, 255 - red], zoom=3))).convert("RGB")
    assert shown.size == (3 * 68, 96)
    assert shown.getpixel((45, 45)) == pytest.approx((255, 0, 0), abs=12)
    assert shown.getpixel((45 + 3 * 34, 45)) == pytest.approx((0, 255, 255), abs=12)


def test_the_menu_is_linked_in_the_browser_and_starts_where_asked():
    box = widgets.chooser({"sig": [IMAGE], "wanet": [IMAGE, IMAGE]}, start="wanet")
    menu, stack = box.children
    assert menu.options == ("sig", "wanet") and menu.index == stack.selected_index == 1
    widths = [Image.open(io.BytesIO(bytes(row.value))).width for row in stack.children]
    assert widths == [2 * 34, 2 * 68]
    with pytest.raises(ValueError, match="'moon' is not among sig"):
        widgets.chooser({"sig": [IMAGE]}, start="moon")


def test_a_still_is_a_small_png_of_the_figure():
    figure = plots.tried(swept())
    shown = Image.open(io.BytesIO(widgets.still(figure, dpi=50).data))
    assert shown.mode == "P" and shown.format == "PNG" and shown.width > 100


def test_detectors_by_noise_keep_the_first_tables_order_and_their_numbers():
    one = pd.DataFrame({0.0: [0.9, 0.25]}, index=["ubt", "gain"])
    other = pd.DataFrame({0.0: [0.5, 0.125]}, index=["gain", "ubt"])
    figure = plots.by_noise({"AP": one, "FPR": other}, "FPR")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ubt", "gain"]
    assert [[t.get_text() for t in axis.texts] for axis in figure.axes] == [
        ["0.90", "0.25"],
        ["0.12", "0.50"],
    ]
