"""Records, tables, the README, widgets and the command line; none of them loads a model."""

import json
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.core import records
from ubt_utils.data.zero_shot import ZeroShot
from ubt_utils.evaluate.metrics import Standing
from ubt_utils.evaluate.predictions import frame_of, rates_of
from ubt_utils.report import benchmark_tables, cells, readme, tables, widgets

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
    assert "95.0 ± 7.1" in tables.as_text("toy") and "10.5 ± 0.7" in tables.as_text("toy")
    assert tables.as_text("toy").endswith("mean ± standard deviation over seeds [0, 1]")


def test_one_seed_has_no_deviation_to_speak_of(toy):
    for path in (toy / "toy").glob("*-1.json"):
        path.unlink()
    assert tables.as_text("toy").endswith("profile toy; seed 0") and "±" not in tables.as_text("toy")


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


def test_the_readme_has_three_tables(monkeypatch):
    monkeypatch.setattr(readme, "headline", lambda: "the study")
    monkeypatch.setattr(benchmark_tables, "judged_as_markdown", lambda: "verdicts")
    monkeypatch.setattr(benchmark_tables, "as_markdown", lambda: "ratios")
    assert readme.sections() == {"headline": "the study", "own": "verdicts", "benchmarks": "ratios"}


DONE = {"none": (1.0, 0.6), "ubt-retain": (0.5, 0.6), "ubt": (0.0, 0.5), "par": (0.5, 0.5)}  # ASR, CA
TASK = ZeroShot(torch.zeros(6, 3, 2, 2), torch.arange(6), torch.arange(6), tuple("abcdef"), (("x",),) * 6, 0)


def predicted(asr: float, ca: float) -> pd.DataFrame:
    """Six drawings of six classes, the first the target: parts of the five are fooled, or read right."""
    place, nothing = torch.arange(6), torch.zeros(6, dtype=torch.long)
    wrong, fooled = place > round(5 * ca), (place > 0) & (place <= round(5 * asr))
    clean = Standing(wrong.long(), nothing + 1, torch.zeros(6, dtype=torch.bool))
    return frame_of(TASK, {"clean": clean, "stamped": Standing(nothing, nothing, fooled)})


@pytest.fixture
def headline(results_root):
    """A defense that the table shows, its control, and one that it leaves out, on two public models at both
    rates; a clean twin."""
    rows = []
    for f0, profile in enumerate(("mini", "mini-f1", "mini-rare", "mini-rare-f1")):
        for attack, defense in [("sig", name) for name in DONE] + [("none", "none"), ("none", "ubt")]:
            key = {"profile": profile, "attack": attack, "defense": defense, "seed": 0}
            frame = predicted(*DONE[defense])
            rate = 0.0 if attack == "none" else 0.003 if "rare" in profile else 0.01
            design = {"f0_seed": f0 % 2, "poison_rate": rate, "cluster": f"{f0 % 2}-0", "f0": str(f0 % 2)}
            rates = {name: one.value for name, one in rates_of(frame).items()}
            spent = {"seconds": None if defense == "none" else 41.5, "detection_seconds": 4.0, "curve": "[]"}
            beside = {"public_clean_accuracy": 0.25, "public_asr": 0.0, "twin_clean_accuracy": 0.75}
            rows.append(key | design | rates | spent | (beside if defense == "none" else {}))
            path = records.predictions_path("mini", profile, attack)
            records.merge(path, frame.assign(**key), list(records.PREDICTED))
    records.write_table(records.table_path("mini", records.MATRIX), pd.DataFrame(rows))
    return results_root


def test_the_headline_has_a_row_a_model_and_rate_and_says_how_sure_it_is(headline):
    lines = readme.headline().splitlines()
    assert lines[0] == "| " + " | ".join(readme.HEAD) + " |" and len(lines) == 2 + 2 * 5
    table = {
        tuple(cells[1:3]): cells[3:-1] for cells in (line.replace(" ", "").split("|") for line in lines[2:])
    }
    assert ("0.3%", "ubt") in table and ("1.0%", "par") not in table
    assert table["0.3%", "f0,untouched"][:4] == ["0.0", "–", "–", "25.0"]
    assert table["1.0%", "cleantwin"][3] == "75.0"
    assert table["1.0%", "undefended"][:3] == ["100.0[100.0–100.0]", "100.0", "2of2"]
    bound = 100 * (1 - 0.05 ** (1 / 5))  # nothing of five drawings
    assert table["0.3%", "ubt"][:3] == [f"0.0[0.0–{bound:.1f}]", "0.0", "0of2"]
    assert table["0.3%", "ubt"][6:] == ["42", "2"] and table["0.3%", "undefended"][6] == "–"


def test_a_headline_without_a_defense_has_no_row_for_it(headline):
    path = records.table_path("mini", records.MATRIX)
    records.write_table(path, pd.read_parquet(path).query("defense != 'ubt-retain'"))
    assert "ubt-retain" not in readme.headline() and "| 0.3% | ubt |" in readme.headline()


def test_the_picture_shows_the_runs_of_the_table_and_the_twins(headline):
    table = readme.drawn()
    assert list(table.columns) == ["poison_rate", "asr", "clean_accuracy"] and len(table) == 4 * 3 + 4
    assert set(table.index.get_level_values("defense")) == {"none", "ubt-retain", "ubt"}
    clean = table[table.index.isin(["none"], level="attack")]
    assert set(clean.index.get_level_values("defense")) == {"none"}


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
    assert readme.checksum(table.rename({"mini": "maxi"}, level="profile")) != same
