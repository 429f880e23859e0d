"""The records under results/ are whole and of one origin, and the README says what they say."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ubt_utils import profiles
from ubt_utils.attacks.craft import Crafted
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.clip import artifacts, models
from ubt_utils.core import paths, records
from ubt_utils.core.checksum import sha256_of
from ubt_utils.evaluate import predictions
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.report import attack_tables, cells, defense_tables, detector_tables, evidence, readme
from ubt_utils.study import sweep

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
JSONS, TABLES = sorted(RESULTS.rglob("*.json")), sorted(RESULTS.rglob("*.parquet"))
PHOTOS = f"{cells.STUDY}/photos"
PREDICTED = [path for path in TABLES if path.parent.name == "predictions"]
PARQUETS = [path for path in TABLES if path not in PREDICTED]
SEEDS, HELD_OUT = (0, 1, 2), (3, 4, 5)  # of the records; of the first study's defenses
PLACES = ("/root", "/tmp", "/home", "/work", "/Users", "/mnt")
MINI = profiles.get("mini")


def named(path: Path) -> str:
    return str(path.relative_to(RESULTS))


@pytest.mark.parametrize("words", [["--dry-run"], ["mini", "--dry-run"]])
def test_data_download_dry_run_names_sizes_and_licences(words):
    done = subprocess.run([ROOT / "data_download.sh", *words], capture_output=True, text=True)
    assert done.returncode == 0 and "MB" in done.stdout and "CC-BY" in done.stdout


def test_data_download_refuses_an_unknown_profile():
    done = subprocess.run([ROOT / "data_download.sh", "moon"], capture_output=True, text=True)
    assert done.returncode == 2 and "moon" in done.stderr and "mini" in done.stderr


def keys(found: list[dict]) -> list[tuple[str, str, int]]:
    return sorted((r["attack"], r["defense"], r["seed"]) for r in found)


def headline_keys() -> list[tuple[str, str, int]]:
    """Of each attack its model undefended and defended, and the clean twin, on every seed."""
    defended = {(a, d, s) for a in DEFENDED for d in ("none", "ubt", "finetune") for s in SEEDS}
    return sorted(defended | {("none", "none", s) for s in SEEDS})


# Where records come from


@pytest.mark.parametrize("path", JSONS, ids=named)
def test_a_record_names_no_place_of_a_machine_and_comes_from_a_clean_commit(path):
    text = path.read_text(encoding="utf-8")
    assert not [place for place in PLACES if place in text]
    assert "+changes" not in text


@pytest.mark.parametrize("path", PARQUETS, ids=named)
def test_a_table_names_no_place_of_a_machine_and_comes_from_clean_commits(path):
    table = pd.read_parquet(path)
    text = table.select_dtypes(exclude="number").astype(str)
    bad = "|".join(map(re.escape, (*PLACES, "+changes")))
    assert [name for name in text if text[name].str.contains(bad).any()] == []
    assert table.commit.str.fullmatch("[0-9a-f]{40}").all() if "commit" in table else "made" in table


@pytest.mark.parametrize("profile", ["mini", PHOTOS, cells.STUDY])
def test_the_records_of_a_folder_descend_from_one_public_model(profile):
    found = evidence.read(profile)
    assert len({records.public_model(record) for record in found}) == 1


@pytest.mark.parametrize("path", PARQUETS, ids=named)
def test_a_table_descends_from_one_public_model(path):
    table = pd.read_parquet(path)
    assert table.f0.notna().all() and evidence.of_one_model(table) is table


@pytest.mark.parametrize("path", PREDICTED, ids=named)
def test_predictions_are_those_of_a_cell_of_the_matrix_and_give_back_its_rates(path):
    matrix = cells.read(path.parent.parent.name).set_index(list(records.KEYS))
    frame = pd.read_parquet(path)
    assert set(zip(frame.profile, frame.attack, strict=True)) == {tuple(path.stem.rsplit("-", 1))}
    for cell, rows in frame.groupby(list(records.KEYS)):
        rates = predictions.rates_of(rows)
        assert {"clean_accuracy", "target_recall"} <= set(rates)
        for name, rate in rates.items():
            assert rate.value == pytest.approx(matrix.loc[cell, name], abs=1e-12), (cell, name)


def test_detectors_are_recorded_at_every_noise_and_beside_every_defense_that_they_feed():
    noises = detector_tables.at_all_noises(detector_tables.read())
    assert set(noises.noise) == {0, 0.1, 0.3} and set(noises.seed) == set(SEEDS)
    assert set(defense_tables.carried_on().runs) == {len(DEFENDED) * len(HELD_OUT)}


def test_one_public_model_leaves_one_fingerprint():
    """f0 makes the same of the same stamped pictures in every row; crafted triggers differ by seed."""
    found = cells.read(cells.STUDY)
    rates = [name for name in found if name.startswith("public_")]
    undefended = found[found.defense == "none"]
    plain = [a for a in TRIGGERS if not isinstance(MINI.trigger(a), Crafted)]
    assert len(plain) >= 16 and {"public_asr", "public_clean_accuracy"} <= set(rates)
    for attack, rows in undefended[undefended.attack.isin([*plain, "none"])].groupby("attack"):
        assert (rows[rates].nunique() <= 1).all(), attack
    without_trigger = [name for name in rates if "asr" not in name]
    assert (undefended[without_trigger].nunique() == 1).all()


def test_the_public_model_of_photos_leaves_one_fingerprint():
    found = [r for r in records.read(PHOTOS) if r["defense"] == "none"]
    rates = pd.DataFrame([{"attack": r["attack"], **r["metrics"]} for r in found]).set_index("attack")
    rates = rates.filter(regex="^public_")
    assert len(rates) == len(SEEDS) * (len(DEFENDED) + 1) and "public_asr" in rates
    assert (rates.groupby("attack").nunique() <= 1).all(axis=None)
    assert (rates.drop(columns=[name for name in rates if "asr" in name]).nunique(dropna=False) == 1).all()
    assert rates.public_clean_accuracy.nunique(dropna=False) == 1


# Whether they are whole


def bearing(config: dict, defense: str) -> dict:
    """The fields of a profile that bear on a run of this defense: not what it is called, nor what is said
    about it, nor how others are set."""
    kept = {name: value for name, value in config.items() if name not in ("name", "about", "changed")}
    return {**kept, "defenses": config["defenses"].get(defense)}


def bearing_of(profile: profiles.Profile, defense: str = "par") -> dict:
    return bearing(json.loads(json.dumps(profile.as_config())), defense)


@pytest.mark.parametrize(
    "changed",
    [
        {"finetune": replace(MINI.finetune, lr=1.0)},
        {"unlearn": replace(MINI.unlearn, weight=1.0)},
        {"overfit": replace(MINI.overfit, recipe=replace(MINI.overfit.recipe, steps=1))},
        {"recipes": {**MINI.recipes, "sig": replace(MINI.recipe("sig"), steps=1)}},
        {"triggers": {**MINI.triggers, "sig": {"amplitude": 0.5}}},
        {"sets": replace(MINI.sets, size=7)},
        {"weights": "other"},
        {"poison_rate": 0.5},
        {"defenses": {**MINI.defenses, "par": {"lr": 1.0}}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_recipe_trigger_or_set_is_another_profile_and_another_name_is_not(changed):
    assert bearing_of(replace(MINI, **changed)) != bearing_of(MINI)
    assert bearing_of(replace(MINI, name="a", about="b", changed="c")) == bearing_of(MINI)
    assert bearing_of(replace(MINI, defenses={}), "ubt") == bearing_of(MINI, "ubt")


def one_look(config: dict) -> dict:
    """A profile's fields without those of detection's later looks."""
    later = {"further", "trace", "scatter", "others_first", "lost_widely"}
    parts = ({k: v for k, v in config[part].items() if k not in later} for part in ("suspect", "select"))
    return {**config, **dict(zip(("suspect", "select"), parts, strict=True))}


def in_no_doubt(record: dict) -> bool:
    """Whether UBT's first look at this victim found a word that needs no second one."""
    run = (
        cells.read("mini")
        .set_index(list(records.KEYS))
        .loc[("mini", record["attack"], "ubt", record["seed"])]
    )
    words = json.loads(run.anchors)
    return (
        max(one["lost"] for one in json.loads(run.asked) if one["word"] in words) >= MINI.select.lost_widely
    )


def test_the_records_of_mini_are_of_all_compared_defenses_and_of_the_profile_as_it_is():
    found = records.read("mini")
    runs = {(attack, seed) for attack, _, seed in keys(found)}
    compared = {(a, d, s) for a, s in runs if a in DEFENDED for d in ("none", "ubt", "finetune")}
    assert set(keys(found)) == compared | {(a, "none", s) for a, s in runs if a not in DEFENDED}
    assert ("badnets", 0) in runs
    for record in found:
        told, today = bearing(record["config"], record["defense"]), bearing_of(MINI, record["defense"])
        if "scatter" not in told["suspect"]:  # from before further looks, which then must not bear on it
            told, today = one_look(told), one_look(today)
            assert record["defense"] == "none" or in_no_doubt(record)
        told["unlearn"].setdefault("hold", 0.0)  # from before there was one
        assert told == today
        assert {"commit", "device", "versions", "date", "threads"} <= set(record["environment"])
        assert (
            set(record["made"]) == set(record["stages"]) >= set(record["contents"]) >= {"pretrain", "attack"}
        )


def test_what_is_recorded_of_mini_descends_from_the_models_that_are_shipped(tmp_path):
    found = [{"profile": r["profile"], "f0": records.public_model(r)} for r in records.read("mini")]
    table = pd.concat([cells.read("mini"), pd.DataFrame(found)])
    table["weights"] = [profiles.get(name).weights for name in table.profile]
    own = table[table.weights != ""]  # of others, random weights
    assert {"mini-0", "mini-1", "mini-2"} <= set(own.weights)
    for weights, rows in own.groupby("weights"):
        model = models.create(MINI.model, 0)
        artifacts.load(model, MINI.model, weights)
        models.save(model, MINI.model, tmp_path / weights)
        assert set(rows.f0) == {sha256_of(tmp_path / weights)}


def test_the_records_of_photos_are_whole_and_of_one_setting():
    found = records.read(PHOTOS)
    assert keys(found) == headline_keys()
    others = [{k: v for k, v in r["config"].items() if k != "unlearn"} for r in found]
    assert all(config == others[0] for config in others)
    unlearned = [record["config"]["unlearn"] for record in found if record["defense"] == "ubt"]
    assert all(setting == unlearned[0] for setting in unlearned)


@pytest.mark.parametrize(("folder", "count"), [("mini", 1), (PHOTOS, len(DEFENDED) * len(SEEDS))])
def test_every_attack_passed_its_gate(folder, count):
    undefended = [r for r in records.read(folder) if r["defense"] == "none" and r["attack"] != "none"]
    assert len(undefended) >= count
    assert all(record["metrics"]["asr"] >= record["config"]["gate"] for record in undefended)


def test_every_victim_of_the_study_passed_its_gate_and_comes_before_its_defenses():
    table = cells.read("mini")
    attacked = table[table.attack != "none"]
    undefended = attacked[attacked.defense == "none"]
    assert (undefended.asr >= [profiles.get(name).gate for name in undefended.profile]).all()
    runs = ["profile", "attack", "seed"]
    assert set(attacked[runs].itertuples(index=False)) == set(undefended[runs].itertuples(index=False))


def test_the_first_study_has_every_attack_and_its_records_say_what_its_cells_say():
    table = attack_tables.attacks()
    assert list(table.index) == list(TRIGGERS) and (table.asr >= MINI.gate).all()
    assert set(table.seeds) == {", ".join(map(str, seeds)) for seeds in (SEEDS, HELD_OUT)}
    found = records.read(cells.STUDY)
    assert keys(found) == sorted((a, "none", s) for a in {"none", *TRIGGERS} - {*DEFENDED} for s in SEEDS)
    matrix = cells.read(cells.STUDY).set_index(list(records.KEYS))
    for record in found:
        row = matrix.loc[tuple(record[key] for key in records.KEYS)]
        assert {k: row[k] for k in record["metrics"]} == pytest.approx(record["metrics"], abs=1e-12)


def test_the_first_study_has_every_defense_on_the_seeds_that_it_holds_out():
    found = defense_tables.standing_cells()
    compared = ("none", "ubt", "retrain", "finetune", "par", "cleanclip", "eftclip")
    want = {(a, d, s) for a in DEFENDED for d in compared for s in HELD_OUT}
    assert set(zip(found.attack, found.defense, found.seed, strict=True)) == want
    matrix = cells.read(cells.STUDY)
    assert not matrix.duplicated(list(records.KEYS)).any() and matrix.device.nunique() == 1


def test_the_recorded_sweep_holds_every_point_once():
    table, wanted = attack_tables.sweep(), []
    for point in sweep.points(MINI):
        there = sweep.at(MINI, point)
        recipe, spec = there.recipe(point.attack), there.trigger(point.attack).spec()
        parameters = json.dumps({k: v for k, v in spec.items() if k not in ("name", "made")})
        settings = point.attack, point.seed, there.poison_rate, recipe.lr, parameters, recipe.augment
        wanted.append(("mini", *settings))
    assert sorted(table[sweep.KEYS].itertuples(index=False, name=None)) == sorted(wanted)
    assert len(wanted) == table.stage.nunique()


# What the README makes of them


def test_the_readme_is_up_to_date():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.text(text) == text


def test_the_picture_of_the_readme_shows_the_records():
    assert readme.picture() == paths.results() / "readme.png"
    assert Image.open(readme.picture()).text == {readme.DATA: readme.checksum(readme.drawn())}
    assert readme.picture().name in (ROOT / "README.md").read_text(encoding="utf-8")
