"""What carries over to photos: tables counted by hand, and the pictures over them; how photos are fetched."""

import matplotlib
import numpy as np
import pandas as pd
import photo_files
import pytest
import torch
from counted import FAMILY, cell, record, way, write

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.core import records
from ubt_utils.data.sample_photos import sample_photos
from ubt_utils.report import photo_tables, plots, study_tables

matplotlib.use("Agg")
ATTACKS = ("sig", "wave")
BOTH = ("ubt", "par")


def runs() -> list[dict]:
    """Two attacks on two public models, undefended, with UBT, and with PAR on the first model alone."""
    beside = {f"public_{name}": 0.4 for name in photo_tables.HARM} | {"twin_clean_accuracy": 0.6}
    found = [cell(0, "none", "none", None, 0.9, linear_probe=0.7)]  # the twin
    for f0, attack in ((f0, attack) for f0 in (0, 1) for attack in ATTACKS):
        worth = dict.fromkeys(photo_tables.HARM, 0.5 + 0.1 * f0)
        found.append(cell(f0, attack, "none", 0.9 - 0.3 * (attack == "wave"), **beside | worth))
        found.append(cell(f0, attack, "ubt", 0.02 * f0, **worth | {"clean_accuracy": 0.45 + 0.1 * f0}))
        if f0 == 0:
            found.append(cell(f0, attack, "par", 0.5, **worth))
    return found


@pytest.fixture
def made(results_root) -> None:
    write(*runs())


def test_settings_name_what_differs():
    table = photo_tables.settings(profiles.get("mini"), profiles.get("photos"))
    assert table.loc["pictures"].tolist() == ["48 px", "96 px"]
    assert table.loc["target"].tolist() == ["clock", "bottle"]
    assert "imagenet" in table.loc["image tower of f0", "photos"]


def test_an_attack_takes_where_its_mean_over_clusters_is_high(made):
    found = photo_tables.took(FAMILY, ATTACKS).loc[0.01]
    assert found.asr.tolist() == pytest.approx([0.9, 0.6]) and found.clusters.tolist() == [2, 2]
    assert found.takes.tolist() == [True, False]


def test_rulers_start_with_the_public_model_and_the_twin(made):
    found = photo_tables.rulers(FAMILY, 0.01, ATTACKS, ("none", "retrain", "ubt"))
    assert list(found.index) == [study_tables.F0, study_tables.TWIN, "none", "ubt"]
    assert found.linear_probe.tolist() == pytest.approx([0.4, 0.7, 0.55, 0.55])
    assert found.clean_accuracy[study_tables.TWIN] == 0.6  # under the attack, where it was measured
    assert found[list(photo_tables.FIVE)].loc[study_tables.TWIN].isna().all()
    assert found.clean_accuracy["ubt"] == pytest.approx(0.5)


def test_what_carries_over_is_held_against_the_undefended_of_the_same_runs(made):
    every = study_tables.recorded(FAMILY)
    every = every.drop("none", level="attack")
    worlds = {"drawings": every, "photos": every.query("attack == 'sig'")}
    found = photo_tables.carried(worlds, ("par", "ubt", "retrain"))
    assert list(found.index.get_level_values("defense").unique()) == ["none", "par", "ubt"]
    assert found.runs.tolist() == [2, 2, 1, 1, 2, 2]  # of the attack that both have
    assert found.loc[("ubt", "photos"), "asr"] == pytest.approx(0.01)
    assert found.loc[("ubt", "drawings"), "clean_accuracy_change"] == pytest.approx(-0.05)
    assert found.loc[("par", "photos"), "asr_change"] == pytest.approx(-0.4)


def test_endpoints_begin_with_what_is_missed(results_root):
    record(
        {(f0, 0, "sig", name): (4 if name == "none" else 0, 4) for f0 in (0, 1) for name in (*BOTH, "none")}
    )
    path = records.table_path(FAMILY, records.MATRIX)
    table = pd.read_parquet(path)
    own, undefended = table.defense == "ubt", table.defense == "none"
    for name in photo_tables.FIVE:
        table[name] = np.where(own, 0.28, 0.3)
    table["twin_target_recall"] = np.where(undefended, 1.0, np.nan)
    table = table.assign(curve=way((0.1, 0.0, 1, 1)), victim_seconds=100.0)
    records.write_table(path, table)
    found = photo_tables.endpoints(FAMILY, ["sig"]).droplevel("poison_rate")
    assert found.met.tolist() == sorted(found.met) and not found.met.iloc[0]
    assert (found.value["attacks that take"], found.met["attacks that take"]) == (1, False)
    assert found.value["image_to_text_r5 less that of undefended"] == pytest.approx(-0.02)
    assert not found.met["text_to_image_r5 less that of retain only"]  # not recorded is not met
    assert found.value["target recall less the twin's"] == 0 and found.met["target recall less the twin's"]
    part = found.loc["seconds as a part of the victim's, median"]
    assert (part.value, part.met) == (pytest.approx(0.1), True)
    assert found.value["clusters that failed"] == 0


def test_pictures_show_every_defense_and_ruler(made):
    every = study_tables.recorded(FAMILY).drop("none", level="attack")
    figure = plots.carried(photo_tables.carried({"drawings": every, "photos": every}, BOTH))
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["undefended", "ubt", "par"]
    assert [len(axis.lines) for axis in figure.axes] == [3, 3, 3]  # two worlds and a line at 0
    found = photo_tables.rulers(FAMILY, 0.01, ATTACKS, ("none", "ubt"))
    figure = plots.harm(found)
    assert len(figure.axes) == len(photo_tables.HARM)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [*found.index[:2], "undefended", "ubt"]


def test_sample_photos_are_squares_with_their_credit():
    photos = sample_photos(32)
    assert all(", " in title for title in photos) and len(photos) == 3
    assert all(p.shape == (3, 32, 32) and p.dtype == torch.uint8 for p in photos.values())


def test_the_command_line_fetches_from_a_mirror(tmp_path, monkeypatch, capsys):
    mirror = photo_files.whole(tmp_path / "mirror")
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    assert cli.main(["fetch", "--mirror", str(mirror), "--dry-run"]) == 0
    assert not (tmp_path / "data").exists()
    assert cli.main(["fetch", "--mirror", str(mirror)]) == 0
    assert "5 files fetched" in capsys.readouterr().out
    assert cli.main(["fetch", "--mirror", str(tmp_path / "nothing")]) == 2
    assert "has no train files" in capsys.readouterr().err


def test_a_tower_is_one_argument(tmp_path, monkeypatch, capsys):
    mirror = photo_files.whole(tmp_path / "mirror")
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))
    assert cli.main(["fetch", "--mirror", str(mirror)]) == 0
    assert cli.main(["pretrain", "--profile", "photos-tiny", "--tower", str(tmp_path / "none.pth")]) == 2
    assert "no weights of an image tower at" in capsys.readouterr().err


def test_a_benchmark_is_recorded_with_where_it_was_measured(results_root, capsys):
    sides = {
        "locked_image_tuning": {"clean_accuracy": 0.5, "seconds": 800.0},
        "from_scratch": {"clean_accuracy": 0.02, "seconds": 900.0},
    }
    assert records.write_benchmark("from_scratch", sides) == results_root / "benchmarks" / "from_scratch.json"
    assert '"seconds": 900.0' in capsys.readouterr().out
    found = records.read_benchmark("from_scratch")
    assert found.pop("environment")["device"] and found == sides
