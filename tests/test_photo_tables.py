"""Two profiles side by side, from records made by hand; and the pictures over them."""

import matplotlib
import photo_files
import pytest
import torch

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.core import records
from ubt_utils.report import plots, profile_tables, tables

matplotlib.use("Agg")
ATTACKS = ("badnets", "sig")


def metrics_of(profile, attack, defense, seed):
    base = 0.5 + 0.1 * seed
    found = dict.fromkeys(profile_tables.HARM, base) | dict.fromkeys(profile_tables.RETRIEVAL, base)
    if attack != "none":
        found["asr"] = {"none": 0.9, "finetune": 0.5, "ubt": 0.02}[defense] + 0.01 * seed
    if defense == "none":
        found |= {f"public_{name}": 0.4 for name in (*profile_tables.HARM, *profile_tables.RETRIEVAL)}
    else:
        found |= {"seconds": 30.0} | ({"precision_at_64": 0.95} if defense == "ubt" else {})
    if defense == "ubt":
        found["clean_accuracy"] -= 0.02
    if profile == "one":
        found = {k: v for k, v in found.items() if "text" not in k and "probe" not in k}
    return found


@pytest.fixture
def made(results_root) -> None:
    for profile in ("one", "two"):
        attacks = (*ATTACKS, "wanet") if profile == "one" else ATTACKS
        for attack, seed in ((a, s) for a in ("none", *attacks) for s in (0, 1)):
            for defense in ("none", "finetune", "ubt") if attack in ATTACKS else ("none",):
                record = {
                    "profile": profile,
                    "attack": attack,
                    "defense": defense,
                    "seed": seed,
                    "f0": profile,
                }
                record["metrics"] = metrics_of(profile, attack, defense, seed)
                record |= {
                    "stages": {"evaluate": "x"},
                    "train_seconds": {"attack": 3.0 if profile == "one" else 9.0},
                }
                if defense != "none":
                    record["curve"] = [{"step": 0, "asr": 0.9}, {"step": 40, "asr": 0.1}]
                if defense == "ubt":
                    scores = {"gain": 0.7, "ubt": 0.95}
                    record["pool_recall"] = 0.9
                    record |= {"anchor": "banana", "plain_anchor": ".", "tokens": ["banana", "a"]}
                    record |= {"chosen": 64, "chosen_poisoned": 60}
                    record |= {"outside_poisoned": 9, "left_out": 8, "left_out_poisoned": 7}
                    record["detectors"] = {name: {"precision_at_64": v} for name, v in scores.items()}
                records.write(record)


def test_only_attacks_that_both_have_defended_stand_side_by_side(made):
    table = profile_tables.side_by_side("one", "two")
    assert list(table.index.get_level_values("attack").unique()) == list(ATTACKS)
    assert table.loc[("sig", "ubt", "two"), "asr"] == pytest.approx(0.025)
    assert table.loc[("sig", "none", "one"), "asr"] == pytest.approx(0.905)


def test_harm_starts_with_the_public_model_and_the_twin(made):
    table = profile_tables.harm("two")
    assert table.loc[("–", "public f0"), "linear_probe"] == pytest.approx(0.4)
    assert table.loc[("–", "clean twin"), "linear_probe"] == pytest.approx(0.55)
    assert [title for attack, title in table.index if attack == "sig"] == ["backdoored", "finetune", "ubt"]


def test_loss_pairs_the_seeds(made):
    change = profile_tables.loss("two")
    assert change.loc["sig", "clean_accuracy"] == pytest.approx(-2)
    assert change.loc["sig", "image_to_text_r5"] == pytest.approx(0)


def test_the_worst_seed_is_the_worst(made):
    table = profile_tables.worst("two")
    assert table.loc[("sig", "finetune"), "asr"] == pytest.approx(0.51)
    assert table.loc[("sig", "ubt"), "target_recall"] == pytest.approx(0.5)


def test_what_the_selection_named_is_in_the_table(made):
    table = profile_tables.selected("two")
    assert table.loc[("sig", 1)].tolist() == [0.9, "banana", ".", "banana, a", 64, 60, 9, 8, 7]
    assert len(table) == 4


def test_a_record_of_today_names_the_words_that_were_found(made):
    path = records.path_of({"profile": "two", "attack": "sig", "defense": "ubt", "seed": 1})
    old = {name: value for name, value in records.load(path).items() if "anchor" not in name}
    records.write(old | {"anchors": ["banana", "fox"]})
    found = profile_tables.selected("two")
    assert found.loc[("sig", 1), "vote"] == "banana, fox" and found.loc[("sig", 0), "vote"] == "banana"
    assert found.loc[("sig", 1), "plain surprise"] is None
    records.write(old | {"anchors": []})  # nothing was found
    assert ("sig", 1) not in profile_tables.selected("two").index


def test_settings_name_what_differs():
    table = profile_tables.settings(profiles.get("mini"), profiles.get("photos"))
    assert table.loc["pictures"].tolist() == ["48 px", "96 px"]
    assert table.loc["target"].tolist() == ["clock", "bottle"]
    assert "imagenet" in table.loc["image tower of f0", "photos"]


def test_what_is_read_off_the_tables_of_two_profiles(made):
    found = [tables.detector_table(name) for name in ("one", "two")]
    assert all(table.loc["sig"].to_dict() == pytest.approx({"gain": 0.7, "ubt": 0.95}) for table in found)
    spent = [tables.stage_seconds(name).seconds.sum() for name in ("one", "two")]
    assert spent == [3.0, 9.0]
    loss, harm = profile_tables.loss("two"), profile_tables.harm("two")
    assert loss.clean_accuracy.tolist() == pytest.approx([-2, -2])
    gap = harm.loc[("–", "clean twin")] - harm.loc[("–", "public f0")]
    assert gap.clean_accuracy == pytest.approx(0.15)
    worst = profile_tables.worst("two")
    assert worst.xs("finetune", level="defense").asr.to_dict() == pytest.approx(
        {"badnets": 0.51, "sig": 0.51}
    )


def test_pictures_show_every_attack(made):
    figure = plots.side_by_side(profile_tables.side_by_side("one", "two"))
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["BadNets, one", "BadNets, two", "SIG, one", "SIG, two"]
    figure = plots.harm(profile_tables.harm("two"))
    assert len(figure.axes) == len(profile_tables.HARM)
    assert len(figure.axes[0].get_yticklabels()) == 2 + 2 * 3


def test_paths_draw_every_seed(made):
    table = profile_tables.curves("two")
    assert len(table) == 2 * 2 * 2 * 2  # attacks, defenses, seeds, points
    figure = plots.paths_by_attack(table)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["BadNets", "SIG"]
    assert len(figure.axes[1].lines) == 4


def test_sample_photos_are_squares_with_their_credit():
    photos = plots.sample_photos(32)
    assert all("©" in title for title in photos)
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
