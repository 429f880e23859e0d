"""Records, tables, the README, widgets and the command line; none of them loads a model."""

import json
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.core import records
from ubt_utils.report import benchmark_tables, cells, exercises, readme, tables, widgets

matplotlib.use("Agg")


def recorded(profile: str, name: str = "sig") -> None:
    """Two seeds of one attack, by hand."""
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
        record = {"profile": profile, "attack": name, "defense": defense, "seed": seed, "metrics": metrics}
        stages = {"evaluate": f"{defense}{seed}"}
        records.write(record | {"f0": "one", "stages": stages, "train_seconds": {"attack": 3.0}})


@pytest.fixture
def toy(results_root):
    """A results folder of its own with two seeds of one attack."""
    recorded("toy")
    return results_root


def test_rows_are_tidy(toy):
    rows = tables.rows("toy")
    assert list(rows.columns) == ["profile", "attack", "defense", "seed", "metric", "value"]
    picked = rows[(rows.defense == "ubt") & (rows.seed == 1) & (rows.metric == "asr")]
    assert picked.value.tolist() == [0.1] and "note" not in set(rows.metric)


def test_headline_is_mean_and_standard_deviation_over_seeds(toy):
    table = tables.headline("toy")
    row = table.loc[("sig", "none")]
    assert row["asr", "mean"] == pytest.approx(0.95)
    assert row["asr", "std"] == pytest.approx(np.std([0.9, 1.0], ddof=1))
    assert "95.0 ± 7.1" in tables.as_text("toy") and "10.5 ± 0.7" in tables.as_markdown("toy")


def test_changes_are_points_against_undefended(toy):
    # a clean twin is dropped from the comparison
    records.write(records.load(toy / "toy" / "sig-none-0.json") | {"attack": "none"})
    change = tables.changes("toy").loc[("sig", "ubt")]
    assert change["asr"] == pytest.approx(-90) and change["clean_accuracy"] == pytest.approx(-5)


def test_a_record_is_read_as_it_was_written_to_the_folder_of_its_profile(toy):
    path = toy / "toy" / "sig-ubt-0.json"
    old = records.load(path)
    assert records.write(old | {"environment": "another day"}) == path
    assert records.load(path) == old | {"environment": "another day"}
    assert sorted(p.name for p in path.parent.iterdir()) == [
        f"sig-{defense}-{seed}.json" for defense in ("none", "ubt") for seed in (0, 1)
    ]


def test_other_files_of_the_folder_are_no_records(toy):
    (toy / "toy" / "data.json").write_text("{}")
    assert len(records.read("toy")) == 4
    with pytest.raises(FileNotFoundError, match="run `make results`"):
        records.read("nowhere")


def test_compare_fails_beyond_the_tolerance_and_is_silent_without_a_record(toy):
    tables.compare("toy", "sig", "ubt", 0, {"asr": 0.05, "clean_accuracy": 0.42})
    with pytest.raises(AssertionError, match="clean_accuracy"):
        tables.compare("toy", "sig", "ubt", 0, {"asr": 0.05, "clean_accuracy": 0.47})
    assert tables.compare("nowhere", "sig", "ubt", 0, {"asr": 0.05}).recorded.isna().all()


def test_json_report_has_the_promised_rows(results_root, capsys):
    recorded("mini")
    assert cli.main(["report", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows[0]) == {"profile", "attack", "defense", "seed", "metric", "value"}
    assert {r["metric"] for r in rows} == set(tables.HEADLINE)
    assert all(0 <= r["value"] <= 1 for r in rows if r["metric"] != "seconds")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attack", "--profile", "moon"], "unknown profile 'moon'"),
        (["attack", "--profile", "tiny", "--attack", "moon"], "unknown attack 'moon'"),
        (["unlearn", "--profile", "tiny", "--defense", "moon"], "unknown defense 'moon'"),
    ],
)
def test_bad_words_end_with_one_clear_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.rglob("*.json")) == []


def test_unknown_stage_lists_the_known_ones():
    done = subprocess.run([sys.executable, "-m", "ubt_utils", "fly"], capture_output=True, text=True)
    assert done.returncode == 2 and "evaluate" in done.stdout + done.stderr


def test_data_check_names_a_changed_set(results_root, capsys):
    records.write({"sha256": "0" * 64}, results_root / "mini" / "data.json")
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


def test_exercises_accept_the_right_answer_and_hint_at_a_wrong_one():
    for name, (compute, hint) in exercises.ANSWERS.items():
        assert exercises.check(name, compute()).endswith("right")
        assert hint in exercises.check(name, -1)
    with pytest.raises(KeyError, match="known"):
        exercises.check("9.9", 0)


def test_detectors_and_seconds_are_means_over_seeds(results_root):
    for seed, found in enumerate((0.5, 0.75)):
        record = {"profile": "toy", "attack": "sig", "defense": "ubt", "seed": seed, "f0": "one"}
        measured = {"metrics": {}, "train_seconds": {"attack": 3.0 + seed, "unlearn": 8.0}}
        records.write({**record, **measured, "detectors": {"gain": {"precision_at_64": found}}})
    assert tables.detector_table("toy").loc["sig", "gain"] == pytest.approx(0.625)
    assert tables.stage_seconds("toy").seconds.to_dict() == {"attack": 3.5, "unlearn (ubt)": 8.0}


def test_one_defense_stands_against_another_in_points_and_seconds(toy):
    for seed in (0, 1):
        ubt = records.load(toy / "toy" / f"sig-ubt-{seed}.json")
        slow = {**ubt["metrics"], "asr": 0.5, "seconds": 30.5}
        records.write(ubt | {"defense": "finetune", "metrics": slow})
    records.write(records.load(toy / "toy" / "sig-none-0.json") | {"attack": "none"})
    row = tables.against("toy", "ubt", "finetune").loc["sig"]
    assert row["asr"] == pytest.approx(-45) and row["seconds"] == pytest.approx(-20)
    assert row["clean_accuracy"] == pytest.approx(0)


def test_cells_of_the_matrix_join_the_records_that_lack_them(toy, monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "toy", profiles.get("tiny"))
    path = records.table_path("tiny", records.MATRIX)
    known = {"profile": "toy", "attack": "sig", "seed": 0, "f0": "one", "asr": 0.75, "note": "text"}
    records.write_table(path, pd.DataFrame([known | {"defense": "ubt"}, known | {"defense": "par"}]))
    found = cells.rows("toy").query("metric == 'asr' and seed == 0").set_index("defense").value
    assert found.to_dict() == {"none": 0.9, "ubt": 0.0, "par": 0.75}  # a record counts before a cell
    with pytest.raises(FileNotFoundError, match="results/photos"):
        cells.rows("photos")


# The README

BEFORE = "a <!-- headline -->old<!-- /headline --> b <!-- photos --><!-- /photos --> c\n"


@pytest.fixture
def sections(monkeypatch):
    """Two sections with texts of their own."""
    monkeypatch.setattr(readme, "sections", lambda: {"headline": "new", "photos": "| table |"})


def test_sections_stand_between_their_marks_and_the_rest_stays(sections):
    text = readme.text(BEFORE)
    assert text == (
        "a <!-- headline -->\nnew\n<!-- /headline --> b <!-- photos -->\n| table |\n<!-- /photos --> c\n"
    )
    assert readme.text(text) == text


@pytest.mark.parametrize("mark", ["<!-- /photos -->", "<!-- headline -->"])
@pytest.mark.parametrize("count", [0, 2])
def test_a_mark_that_is_not_there_once_is_named(sections, mark, count):
    with pytest.raises(ValueError, match=r"needs the marks <!-- .* -->, once each"):
        readme.text(BEFORE.replace(mark, count * mark))


def test_the_readme_has_two_tables(monkeypatch):
    monkeypatch.setattr(tables, "as_markdown", lambda profile: f"headline of {profile}")
    monkeypatch.setattr(benchmark_tables, "as_markdown", lambda: "ratios")
    found = {"headline": "headline of mini", "benchmarks": "ratios"}
    assert readme.sections() == found


@pytest.fixture
def headline(results_root):
    """Two defended attacks, one that nobody defended against, and the clean twin."""
    for name in ("badnets", "sig"):
        recorded("mini", name)
        for seed in (0, 1):
            ubt = records.load(results_root / "mini" / f"{name}-ubt-{seed}.json")
            records.write(ubt | {"defense": "finetune"})
    for name in ("wanet", "none"):
        records.write(records.load(results_root / "mini" / "sig-none-0.json") | {"attack": name})
    return results_root


def test_the_picture_is_drawn_from_the_defended_attacks(headline):
    table = readme.drawn()
    assert list(table.columns) == ["asr", "clean_accuracy"] and len(table) == 2 * 3 * 2
    assert set(table.index.get_level_values("attack")) == {"badnets", "sig"}
    assert table.loc[("sig", "ubt", 1)].tolist() == [0.1, 0.6]


def test_write_renews_tables_and_picture_the_same_again(headline, sections, tmp_path, monkeypatch):
    monkeypatch.setattr(readme.paths, "home", lambda: tmp_path)
    (tmp_path / "README.md").write_text(BEFORE, encoding="utf-8")
    assert readme.write().read_text(encoding="utf-8") == readme.text(BEFORE)
    picture = headline / "readme.png"
    first = picture.read_bytes()
    assert Image.open(picture).text == {"Data": readme.checksum(readme.drawn())}  # no time, no version
    readme.write()
    assert picture.read_bytes() == first


def test_the_checksum_of_the_picture_is_that_of_its_numbers(headline):
    table = readme.drawn()
    same = readme.checksum(table + 1e-9)
    assert readme.checksum(table) == same != readme.checksum(table + 1e-4)
    assert readme.checksum(table.rename({1: 2}, level="seed")) != same
