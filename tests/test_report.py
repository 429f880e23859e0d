"""Records, tables, figures, widgets and the command line; none of them loads a model."""

import json
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from ubt_utils import __main__ as cli
from ubt_utils.report import exercises, figures, tables, widgets

matplotlib.use("Agg")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Two seeds of one attack, by hand, in a results folder of their own."""
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    values = {
        ("none", 0): (0.5, 0.9),
        ("none", 1): (0.6, 1.0),
        ("ubt", 0): (0.4, 0.0),
        ("ubt", 1): (0.6, 0.1),
    }
    for (defense, seed), (ca, asr) in values.items():
        metrics = {"clean_accuracy": ca, "asr": asr, "target_recall": 0.5, "note": "text is no metric"}
        if defense == "ubt":
            metrics |= {"seconds": 10.0 + seed, "precision_at_64": 1.0}
        record = {"profile": "toy", "attack": "sig", "defense": defense, "seed": seed, "metrics": metrics}
        stages = {"evaluate": f"{defense}{seed}"}
        tables.write(record | {"stages": stages, "train_seconds": {"attack": 3.0}})
    return tmp_path


def test_rows_are_tidy(records):
    rows = tables.rows("toy")
    assert list(rows.columns) == ["profile", "attack", "defense", "seed", "metric", "value"]
    picked = rows[(rows.defense == "ubt") & (rows.seed == 1) & (rows.metric == "asr")]
    assert picked.value.tolist() == [0.1] and "note" not in set(rows.metric)


def test_headline_is_mean_and_standard_deviation_over_seeds(records):
    table = tables.headline("toy")
    row = table.loc[("sig", "none")]
    assert row["asr", "mean"] == pytest.approx(0.95)
    assert row["asr", "std"] == pytest.approx(np.std([0.9, 1.0], ddof=1))
    assert "95.0 ± 7.1" in tables.as_text("toy") and "10.5 ± 0.7" in tables.as_markdown("toy")


def test_changes_are_points_against_undefended(records):
    # a clean twin is dropped from the comparison
    tables.write(json.loads((records / "toy" / "sig-none-0.json").read_text()) | {"attack": "none"})
    change = tables.changes("toy").loc[("sig", "ubt")]
    assert change["asr"] == pytest.approx(-90) and change["clean_accuracy"] == pytest.approx(-5)


def test_a_record_that_says_the_same_is_not_rewritten(records):
    path = records / "toy" / "sig-ubt-0.json"
    old = json.loads(path.read_text())
    tables.write(old | {"environment": "another day"})
    assert json.loads(path.read_text()) == old
    tables.write(old | {"stages": {"evaluate": "new"}})
    assert json.loads(path.read_text())["stages"] == {"evaluate": "new"}
    tables.write(old | {"metrics": old["metrics"] | {"asr": 0.125}})  # the same stages, computed elsewhere
    assert json.loads(path.read_text())["metrics"]["asr"] == 0.125


def test_compare_fails_beyond_the_tolerance_and_is_silent_without_a_record(records):
    tables.compare("toy", "sig", "ubt", 0, {"asr": 0.05, "clean_accuracy": 0.42})
    with pytest.raises(AssertionError, match="clean_accuracy"):
        tables.compare("toy", "sig", "ubt", 0, {"asr": 0.05, "clean_accuracy": 0.47})
    assert tables.compare("nowhere", "sig", "ubt", 0, {"asr": 0.05}).recorded.isna().all()


def test_json_report_of_the_committed_records_has_the_promised_rows(capsys):
    assert cli.main(["report", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows[0]) == {"profile", "attack", "defense", "seed", "metric", "value"}
    assert {r["metric"] for r in rows} == set(tables.HEADLINE)
    assert all(0 <= r["value"] <= 1 for r in rows if r["metric"] != "seconds")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["attack", "--profile", "moon"], "unknown profile 'moon'"),
        (["attack", "--profile", "tiny", "--attack", "moon"], "unknown attack 'moon'"),
        (["unlearn", "--profile", "tiny", "--defense", "moon"], "unknown defense 'moon'"),
    ],
)
def test_bad_words_end_with_one_clear_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.rglob("*.json")) == []


def test_unknown_stage_lists_the_known_ones():
    done = subprocess.run([sys.executable, "-m", "ubt_utils", "fly"], capture_output=True, text=True)
    assert done.returncode == 2 and "evaluate" in done.stdout + done.stderr


def test_data_check_names_a_changed_set(records, capsys):
    tables.write_data({"sha256": "0" * 64})
    assert cli.main(["data"]) == 2
    assert "differ" in capsys.readouterr().err
    assert cli.main(["data", "--record"]) == 0
    assert cli.main(["data"]) == 0


def test_film_links_slider_and_frames_and_refuses_none():
    frames = [plt.figure(figsize=(1, 1)) for _ in range(3)]
    slider, stack = widgets.film(frames, "strength", start=1).children
    assert (slider.min, slider.max, slider.value) == (0, 2, 1)
    assert len(stack.children) == 3 and stack.selected_index == 1
    assert all(bytes(child.value).startswith(b"\x89PNG") for child in stack.children)
    with pytest.raises(ValueError, match="at least one"):
        widgets.film([], "strength")


def test_kinds_gives_poison_precedence():
    kind = figures.kinds(torch.tensor([True, False, False]), torch.tensor([0, 1]))
    assert kind.tolist() == ["poisoned", "misplaced", "honest"]


def test_save_writes_png_and_pdf(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    figures.save(plt.figure(), "one")
    assert {p.suffix for p in (tmp_path / "figures").iterdir()} == {".png", ".pdf"}


def test_colored_caption_escapes_and_marks():
    html = figures.colored_caption(["<b>", "clock"], [0.1, -0.2], {"clock"})
    assert "&lt;b&gt;" in html and "<b>" not in html and html.count("border-bottom") == 1


def test_exercises_accept_the_right_answer_and_hint_at_a_wrong_one():
    for name, (compute, hint) in exercises.ANSWERS.items():
        assert exercises.check(name, compute()).endswith("right")
        assert hint in exercises.check(name, -1)
    with pytest.raises(KeyError, match="known"):
        exercises.check("9.9", 0)


def test_a_gallery_tells_its_captions_once_above_the_first_row():
    pictures = [torch.zeros(3, 4, 4), torch.ones(3, 4, 4)]
    figure = figures.gallery({"one": pictures, "two": pictures}, ["left", "right"])
    assert [axis.get_title() for axis in figure.axes] == ["left", "right", "", ""]
