"""Figures draw what they are given; readings tell the numbers that they are given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from ubt_utils import profiles
from ubt_utils.report import figures, readings, tables

matplotlib.use("Agg")
N = 60
KIND = np.array(["poisoned"] * 10 + ["misplaced"] * 20 + ["honest"] * 30, dtype=object)
TRUTH = torch.arange(N) < 10


def titles(figure):
    return [axis.get_title(loc="left") or axis.get_title() for axis in figure.axes]


def test_answers_show_the_target_in_red_and_percent():
    figure = figures.answers([("stamped", torch.zeros(3, 4, 4), {"clock": 0.9, "taxi": 0.1})], "clock")
    bars = {round(p.get_width()): matplotlib.colors.to_hex(p.get_facecolor()) for p in figure.axes[1].patches}
    assert bars[90] == figures.COLORS["poisoned"].lower() and bars[10] == figures.COLORS["honest"].lower()


def test_similarity_panels_count_each_kind():
    values = torch.linspace(-1, 1, N)
    figure = figures.similarity_panels({"f0": values, "fb": -values}, KIND)
    told = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert titles(figure) == ["f0", "fb"] and "poisoned (10)" in told and "honest (30)" in told


def test_overfit_path_draws_the_median_of_each_kind():
    path = torch.stack([torch.zeros(N), torch.arange(N).float()])
    axis = figures.overfit_path(torch.tensor([0, 5]), path, KIND).axes[0]
    assert [line.get_ydata()[-1] for line in axis.lines] == [4.5, 19.5, 44.5]


def test_ranking_draws_precision_at_every_k():
    figure = figures.ranking({"ubt": TRUTH.float(), "other": -TRUTH.float()}, TRUTH, "ubt", 8)
    best, worst = figure.axes[1].lines[:2]
    assert np.asarray(best.get_ydata())[9] == 1.0 and np.asarray(worst.get_ydata())[9] == 0.0


def test_bars_curves_chain_and_suspects_draw_what_they_get():
    bars = figures.token_bars(["clock", "a"], [3.0, 1.0], {"clock"}, "G")
    assert [p.get_width() for p in bars.axes[0].patches] == [3.0, 1.0]
    point = {"step": 0, "asr": 0.5, "clean_accuracy": 0.4, "target_recall": 0.3}
    curves = figures.defense_curves({"ubt": [point]}, {"ubt": 9.0})
    assert [axis.lines[0].get_ydata()[0] for axis in curves.axes] == [50, 40, 30]
    chain = figures.chain([("attack", "fb", "01"), ("unlearn", "fu", "04")])
    assert {"attack", "unlearn"} <= {t.get_text() for t in chain.axes[0].texts}
    row = figures.suspects([(torch.zeros(3, 4, 4), "a clock", True), (torch.zeros(3, 4, 4), "a cat", False)])
    assert [axis.get_title() for axis in row.axes] == ["a clock", "a cat"]


def test_the_plane_has_a_panel_per_recorded_attack():
    assert titles(figures.plane(tables.rows("mini"))) == ["BadNets", "Blended", "SIG"]


def test_readings_of_the_records_tell_the_recorded_numbers():
    table = tables.headline("mini")
    worst = 100 * table["asr", "mean"].xs("ubt", level="defense").max()
    assert f"at most {worst:.1f}%" in readings.headline(table).data
    change, against = tables.changes("mini"), tables.against("mini", "ubt", "finetune")
    assert (
        f"{-change.xs('ubt', level='defense')['asr'].max():.0f} points or more"
        in readings.changes(change).data
    )
    assert f"{against['asr'].mean():+.1f} points" in readings.claimed(against).data
    assert {"badnets", "blended", "sig"} == set(tables.detector_table("mini").index)
    assert {"pretrain", "attack", "unlearn (ubt)"} <= set(tables.stage_seconds("mini").index)


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (lambda: readings.noise(200, 20), "20 of them (10%)"),
        (lambda: readings.target(profiles.get("mini")), "**clock**"),
        (lambda: readings.gaps({"f0": 0.25}), "f0 +0.25"),
        (lambda: readings.path({"honest": -0.1}, {"train_seconds": 3, "score_seconds": 4}), "honest -0.10"),
        (lambda: readings.vote(["clock", "o"], [170.2, 113.0], 205, 4422), "205 times among 4,422"),
        (
            lambda: readings.second_look({"left_out": 9, "left_out_poisoned": 7, "outside_poisoned": 8}, 50),
            "poisoned pairs out there: 8. Left out of D_safe: 9, of which honest: 2.",
        ),
        (lambda: readings.carriers({"random": 0.8, "overfit": 1.0}, 0.85, 205), "85% of the 205"),
        (lambda: readings.compromised(["o", "clock"], 37.4), "falls to 37"),
    ],
)
def test_readings_tell_their_numbers(reading, told):
    assert told in reading().data


def test_readings_of_stages_tell_their_numbers():
    rate = {"value": 0.5, "n": 8, "units": 2, "low": 0.1, "high": 0.9}
    assert "CA 50.0%" in readings.public_model({"rates": {"clean_accuracy": rate}}, 100).data
    count = tables.pd.DataFrame(
        {"pairs in D": [10, 90], "in the pool": [5, 20]}, index=["poisoned", "honest"]
    )
    assert "holds 50% of the poison" in readings.pool(profiles.get("mini"), count).data
    measures = {"precision_at_64": 0.75, "average_precision": 0.5, "auroc": 0.9}
    table = tables.pd.DataFrame({"gain": measures, "ubt": measures, "random": measures}).T
    assert "0.75 (`gain`)" in readings.single_scores(table).data
    chosen = {"detectors": {"ubt": measures}, "chosen": 64, "chosen_poisoned": 48}
    assert "of 64 chosen pairs 48 are poisoned" in readings.selection(chosen, 12.0).data
    ends = [
        {"step": s, "asr": a, "clean_accuracy": 0.5, "target_recall": 0.4} for s, a in ((0, 0.9), (80, 0.1))
    ]
    stage = {"curve": ends, "seconds": 30.0, "detection_seconds": 20.0}
    assert "from 90.0% to **10.0%** in 80 steps" in readings.defense(stage, stage).data
    assert "ASR -80.0" in readings.difference(ends[1], ends[0]).data


def test_detectors_by_noise_are_told_at_each_rate():
    table = pd.DataFrame({0.0: [0.9, 0.8, 0.95], 0.1: [0.1, 0.3, 0.9]}, index=["gain", "dao", "ubt"])
    told = readings.by_noise(table).data
    assert "0%: `gain` 0.90 (UBT's list 0.95); 10%: `dao` 0.30 (UBT's list 0.90)" in told
