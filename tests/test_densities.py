"""Histograms as tables: every pair with a value is counted once, in its bin, and a figure needs no more."""

import io

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

from ubt_utils.evaluate.densities import BINS, KINDS, densities, kinds
from ubt_utils.report import plots

matplotlib.use("Agg")
KIND = np.array(["poisoned", "honest", "misplaced", "honest"], dtype=object)


def test_poison_wins_over_a_misplaced_caption():
    assert kinds(torch.tensor([True, False, False]), torch.tensor([0, 1])).tolist() == [
        "poisoned", "misplaced", "honest"
    ]  # fmt: skip


def test_each_pair_is_counted_once_where_its_value_lies():
    values = torch.tensor([0.0, 0.5, 1.0, 0.26])
    table = densities({"a": values, "b": values + 1}, KIND, {"b": 1.5})
    assert len(table) == 2 * BINS and (table.low[1:BINS].to_numpy() == table.high[: BINS - 1]).all()
    for title, shift in (("a", 0), ("b", 1)):
        part = table[table.panel == title]
        for value, kind in zip((values + shift).tolist(), KIND, strict=True):
            last = part.high == table.high.max()
            inside = (part.low <= value) & ((value < part.high) | (last & (value <= part.high)))
            assert inside.sum() == 1 and part[inside][kind].item() == 1
        assert part[list(KINDS)].sum().tolist() == [2, 1, 1]
    assert table[table.panel == "a"].bound.isna().all() and set(table[table.panel == "b"].bound) == {1.5}


def test_what_is_not_finite_is_in_no_bin():
    table = densities({"a": torch.tensor([-torch.inf, torch.nan, 0.0, 1.0])}, KIND)
    assert table[list(KINDS)].sum().tolist() == [1, 1, 0] and table.low[0] == 0


def test_a_figure_of_the_table_as_a_file_is_that_of_the_values():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    kind = np.array(["poisoned", "misplaced", *["honest"] * 6] * 50, dtype=object)
    panels, bounds = {"b": values, "a": values / 2}, {"b": 0.25}
    read = pd.read_csv(io.StringIO(densities(panels, kind, bounds).to_csv(index=False, float_format="%.6g")))
    live = plots.similarity_panels(panels, kind, "lost", bounds, "more →", columns=2)
    kept = plots.density_panels(read, "lost", "more →", columns=2)
    for one, other in zip(live.axes, kept.axes, strict=True):
        assert one.get_title(loc="left") == other.get_title(loc="left") != ""
        for a, b in zip(one.patches, other.patches, strict=True):
            assert (a.get_data().values == b.get_data().values).all()
            np.testing.assert_allclose(a.get_data().edges, b.get_data().edges, rtol=1e-5)
        assert [list(line.get_xdata()) for line in one.lines] == [
            list(line.get_xdata()) for line in other.lines
        ]
    said = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (live, kept)]
    assert said[0] == said[1] == ["honest (300)", "misplaced (50)", "poisoned (50)"]
    plt.close("all")
