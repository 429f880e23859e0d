"""Two profiles side by side, from records made by hand; and the pictures and sentences over them."""

import matplotlib
import pandas as pd
import pytest
import torch

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.report import galleries, photo_readings, profile_tables, tables

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
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    for profile in ("one", "two"):
        attacks = (*ATTACKS, "wanet") if profile == "one" else ATTACKS
        for attack, seed in ((a, s) for a in ("none", *attacks) for s in (0, 1)):
            for defense in ("none", "finetune", "ubt") if attack in ATTACKS else ("none",):
                record = {"profile": profile, "attack": attack, "defense": defense, "seed": seed}
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
                tables.write(record)
    return tmp_path


def test_only_attacks_that_both_have_defended_stand_side_by_side(records):
    table = profile_tables.side_by_side("one", "two")
    assert list(table.index.get_level_values("attack").unique()) == list(ATTACKS)
    assert table.loc[("sig", "ubt", "two"), "asr"] == pytest.approx(0.025)
    assert table.loc[("sig", "none", "one"), "asr"] == pytest.approx(0.905)


def test_harm_starts_with_the_public_model_and_the_twin(records):
    table = profile_tables.harm("two")
    assert table.loc[("–", "public f0"), "linear_probe"] == pytest.approx(0.4)
    assert table.loc[("–", "clean twin"), "linear_probe"] == pytest.approx(0.55)
    assert [title for attack, title in table.index if attack == "sig"] == ["backdoored", "finetune", "ubt"]


def test_loss_pairs_the_seeds(records):
    change = profile_tables.loss("two")
    assert change.loc["sig", "clean_accuracy"] == pytest.approx(-2)
    assert change.loc["sig", "image_to_text_r5"] == pytest.approx(0)


def test_the_worst_seed_is_the_worst(records):
    table = profile_tables.worst("two")
    assert table.loc[("sig", "finetune"), "asr"] == pytest.approx(0.51)
    assert table.loc[("sig", "ubt"), "target_recall"] == pytest.approx(0.5)


def test_what_the_selection_named_is_told(records):
    table = profile_tables.selected("two")
    assert table.loc[("sig", 1)].tolist() == [0.9, "banana", ".", "banana, a", 64, 60, 9, 8, 7]
    assert len(table) == 4


def test_settings_name_what_differs():
    table = profile_tables.settings(profiles.get("mini"), profiles.get("photos"))
    assert table.loc["pictures"].tolist() == ["48 px", "96 px"]
    assert table.loc["target"].tolist() == ["clock", "banana"]
    assert "imagenet" in table.loc["image tower of f0", "photos"]


def test_the_readme_table_has_a_row_per_attack_and_defense(records):
    text = profile_tables.as_markdown("two")
    assert len(text.splitlines()) == 2 + 1 + 2 * 3
    assert "| sig | ubt | 2.5 ± 0.7 |" in text


def test_sentences_carry_the_numbers(records):
    table = profile_tables.side_by_side("one", "two")
    assert "2.5% to 2.5%" in photo_readings.carried(table, "one", "two").data
    told = photo_readings.harm(profile_tables.loss("two"), profile_tables.harm("two")).data
    assert "clean accuracy -2.0 to -2.0" in told and "+15.0 points of CA" in told
    found = [tables.detector_table(name) for name in ("one", "two")]
    assert (
        "`gain` with 0.70, while UBT's list has 0.95" in photo_readings.detected(*found, ("one", "two")).data
    )
    spent = [tables.stage_seconds(name) for name in ("one", "two")]
    assert "3.0 times as much" in photo_readings.cost(*spent, ("one", "two")).data
    assert "ASR up to 51.0% (`badnets`)" in photo_readings.worst(profile_tables.worst("two")).data


def test_pictures_show_every_attack(records):
    figure = galleries.carried(profile_tables.side_by_side("one", "two"))
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["BadNets, one", "BadNets, two", "SIG, one", "SIG, two"]
    figure = galleries.harm(profile_tables.harm("two"))
    assert len(figure.axes) == len(profile_tables.HARM)
    assert len(figure.axes[0].get_yticklabels()) == 2 + 2 * 3


def test_paths_draw_every_seed(records):
    table = profile_tables.curves("two")
    assert len(table) == 2 * 2 * 2 * 2  # attacks, defenses, seeds, points
    figure = galleries.paths(table)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["BadNets", "SIG"]
    assert len(figure.axes[1].lines) == 4


def test_sample_photos_are_squares_with_their_credit():
    photos = galleries.sample_photos(32)
    assert all("©" in title for title in photos)
    assert all(p.shape == (3, 32, 32) and p.dtype == torch.uint8 for p in photos.values())


def test_the_command_line_fetches_from_a_mirror(tmp_path, monkeypatch, capsys):
    import photo_files

    mirror = photo_files.whole(tmp_path / "mirror")
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    assert cli.main(["fetch", "--mirror", str(mirror), "--dry-run"]) == 0
    assert not (tmp_path / "data").exists()
    assert cli.main(["fetch", "--mirror", str(mirror)]) == 0
    assert "5 files fetched" in capsys.readouterr().out
    assert cli.main(["fetch", "--mirror", str(tmp_path / "nothing")]) == 2
    assert "the mirror has no train files" in capsys.readouterr().err


def test_a_tower_is_one_argument(tmp_path, capsys):
    assert cli.main(["pretrain", "--profile", "photos-tiny", "--tower", str(tmp_path / "none.pth")]) == 2
    assert "no weights of an image tower at" in capsys.readouterr().err


def test_the_way_round_is_told_for_its_worst_seed():
    rows = [
        (defense, seed, step, asr)
        for defense, seed, path in (
            ("ubt-cut", 0, (0.9, 0.0, 0.1)), ("ubt-cut", 1, (0.8, 0.05, 0.4)), ("ubt", 0, (0.9, 0.1, 0.02)),
            ("ubt", 1, (0.8, 0.1, 0.01)),
        )
        for step, asr in zip((0, 5, 10), path, strict=True)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["defense", "seed", "step", "asr"])
    told = photo_readings.way_round(table).data
    assert "seed 1 goes from 80.0% ASR to 5.0% at step 5, and is back at 40.0%" in told
    assert "no seed ends above 2.0%" in told


def test_what_imagenet_is_worth_is_read_from_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    sides = {
        "locked_image_tuning": {"clean_accuracy": 0.5, "seconds": 800.0},
        "from_scratch": {"clean_accuracy": 0.02, "seconds": 900.0},
    }
    tables.write_benchmark("from_scratch", sides)
    assert tables.read_benchmark("from_scratch")["environment"]["device"]
    told = photo_readings.from_scratch().data
    assert "reaches 50.0% zero-shot accuracy in 800 s" in told and "at 2.0% after 900 s" in told
