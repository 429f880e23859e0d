"""The suite's tables, the sweep, and the stage that examines an attack; cells by hand."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from drawn import attacker, stored

from ubt_utils import profiles, stages
from ubt_utils.attacks import robustness, visibility
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.attacks.craft import pack
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.evaluate import measure, metrics
from ubt_utils.report import attack_tables, cells, tables
from ubt_utils.study import sweep

EXAMINED = {"psnr", "ssim", "gmsd", "clip_similarity"}
SURVIVED = {f"asr_jpeg_{q}" for q in robustness.QUALITIES} | {"asr_resize_75", "asr_resize_50"}


@pytest.fixture
def made(results_root) -> None:
    """Cells of two seeds of the twin and of two attacks, and such as the tables of attacks leave out."""
    rows = []
    for seed in (3, 0):
        twin = 0.5 + (seed == 3) / 10
        base = dict.fromkeys(EXAMINED, 20.0) | dict.fromkeys(SURVIVED, 0.25)
        base |= {"profile": "mini", "defense": "none", "seed": seed, "public_asr": 0.0, "f0": "one"}
        measured = {
            "wanet": {"asr": 0.8, "clean_accuracy": 0.7, "twin_clean_accuracy": twin},
            "sig": {
                "asr": 0.9 + (seed == 3) / 10,
                "clean_accuracy": 0.48,
                "twin_clean_accuracy": twin,
                "public_asr": seed / 10,
            },
            "none": {"clean_accuracy": twin},
        }
        rows += [{**base, "attack": attack, **metrics} for attack, metrics in measured.items()]
    rows += [
        {**rows[0], "defense": "ubt", "asr": 0.0},
        {**rows[0], "profile": "mini-few10", "asr": 0.0},
    ]
    records.write_table(records.table_path(cells.STUDY, records.MATRIX), pd.DataFrame(rows))


def test_the_table_of_attacks_sets_each_seed_against_its_own_twin(made):
    table = attack_tables.attacks()
    row = table.loc["sig"]
    assert row.asr == pytest.approx(0.95) and row.asr_std == pytest.approx(0.0707, abs=1e-4)
    assert row.ca_change == pytest.approx(((0.48 - 0.5) + (0.48 - 0.6)) / 2) and row.seeds == "0, 3"
    assert row.public_asr == pytest.approx(0.15) and row.psnr == 20
    assert list(table.index) == ["sig", "wanet"]  # in the order of the registry, without the twin
    assert table.loc["wanet", "asr"] == pytest.approx(0.8)  # undefended, of the ordinary profile
    assert set(attack_tables.STEALTH) <= set(table)


def test_the_table_of_another_profile_has_its_cells(made):
    table = attack_tables.attacks("mini-few10")
    assert list(table.index) == ["wanet"] and table.loc["wanet", "seeds"] == "3"


def test_the_table_of_what_survives_has_a_column_per_change(made):
    table = attack_tables.robust()
    assert list(table.columns) == [
        "as sent",
        *(f"JPEG {q}" for q in (95, 75, 50, 30)),
        "resize 75%",
        "resize 50%",
    ]
    assert table.loc["wanet"].tolist() == pytest.approx([0.8] + [0.25] * 6)


def test_attacks_without_a_defense_stay_out_of_the_headline(results_root):
    for attack, defense in (("none", "none"), ("sig", "none"), ("sig", "ubt"), ("wanet", "none")):
        record = {"profile": "toy", "attack": attack, "defense": defense, "seed": 0, "f0": "one"}
        records.write(record | {"metrics": {"asr": 0.5}})
    assert set(tables.headline("toy").index.get_level_values("attack")) == {"none", "sig"}


def test_every_trigger_is_in_the_table_of_specs():
    table = attack_tables.specs()
    assert list(table.index) == list(TRIGGERS) and not table.isna().any().any()


# The sweep


def test_the_sweep_shows_every_attack_at_its_recipe_and_at_something_else():
    points = list(sweep.points(profiles.MINI))
    settings = [sweep.at(profiles.MINI, p) for p in points]
    made = {
        (p.attack, s.poison_rate, s.recipe(p.attack), s.trigger(p.attack))
        for p, s in zip(points, settings, strict=True)
    }
    assert len(made) == len(points)  # no two points are the same model
    for name in TRIGGERS:
        assert sweep.Point(name) in points and len([p for p in points if p.attack == name]) >= 2
    for name in sweep.GRID_ATTACKS:
        assert len([p for p in points if p.attack == name]) == 8


def test_a_point_changes_rate_lr_augmentation_and_trigger_and_opens_the_gate():
    point = sweep.Point("wanet", 0.003, 2.5e-4, "none", (("warp", 16.0),))
    profile = sweep.at(profiles.MINI, point)
    assert profile.poison_rate == 0.003 and profile.gate == 0
    assert profile.recipe("wanet") == replace(profiles.MINI.recipe("wanet"), lr=2.5e-4, augment="none")
    assert profile.trigger("wanet") == replace(profiles.MINI.trigger("wanet"), warp=16.0)
    assert profile.recipe("sig") == profiles.MINI.recipe("sig")
    same = sweep.at(profiles.MINI, sweep.Point("wanet"))
    assert same.trigger("wanet") == profiles.MINI.trigger("wanet")
    assert same.recipe("wanet") == profiles.MINI.recipe("wanet")


def test_the_sweep_records_settings_metrics_and_where(chain, results_root):
    point = sweep.Point("badnets")
    written = sweep.write(sweep.run(chain.profile, [point]), "tiny")
    assert written.name == "attack_sweep.parquet"
    (row,) = attack_tables.sweep("tiny").to_dict("records")
    assert row["stage"] == chain["attack"].folder.name
    assert row["f0"] == chain["pretrain"].contents["model.safetensors"]
    assert {name: row[name] for name in sweep.METRICS} == {
        name: chain["evaluate"].metrics[name] for name in sweep.METRICS
    }
    assert row["strength_name"] == "size" and row["is_recipe"]
    assert {"commit", "device", "torch", "date"} <= set(row) and row["augment"] == "none"


def swept(*attacks: str, lr: float = 1e-3, asr: float = 0.5) -> pd.DataFrame:
    """Rows of a sweep, by hand, with what tells its models apart."""
    point = {"seed": 0, "poison_rate": 0.01, "lr": lr, "parameters": "{}", "augment": "color"}
    return pd.DataFrame([{"profile": "mini", "attack": a, **point, "asr": asr, "f0": "one"} for a in attacks])


def test_a_sweep_of_some_attacks_keeps_the_others_and_renews_its_own(results_root):
    sweep.write(swept("sig", "wanet"), "mini")
    sweep.write(swept("sig", asr=0.75), "mini")
    assert attack_tables.sweep("mini").set_index("attack").asr.to_dict() == {"sig": 0.75, "wanet": 0.5}


@pytest.mark.parametrize("key", sweep.KEYS)
def test_models_that_differ_in_one_setting_are_two_rows_of_a_sweep(results_root, key):
    one = swept("sig")
    other = one.assign(**{key: "another" if isinstance(one[key][0], str) else 7})
    for table in (one, other):
        sweep.write(table, "mini")
    assert len(attack_tables.sweep("mini")) == 2


def test_a_missing_sweep_says_how_to_make_it(results_root):
    with pytest.raises(FileNotFoundError, match="make sweep"):
        attack_tables.sweep()


# The stage examine, and the clean twin


def test_the_twin_of_an_attack_is_trained_by_its_recipe_and_without_poison(chain, no_training):
    assert chain.run.twin.attacked == stages.chain(chain.profile, "none", 0).attacked
    harder = replace(chain.profile, recipes={"sig": replace(chain.profile.finetune, lr=1.0)})
    with pytest.raises(AssertionError, match="trained although"):
        stages.chain(harder, "sig", 0).twin.attacked  # noqa: B018


def misread(model, head, pictures: torch.Tensor, labels: torch.Tensor, profile) -> torch.Tensor:
    """(n,) the chance that each picture is read as the target."""
    task = measure.task_of(profile.sets)
    found = metrics.standing(models.embed_images(model, pictures) @ head.T, labels, task.target)
    return metrics.fooled(found, labels, metrics.Question(106, 20, task.target))


def test_examine_measures_stealth_and_what_survives(chain):
    found = chain.run.examined.metrics
    twin = measure.full(chain.run.model(chain.run.twin.attacked), chain.profile, chain.run.trigger)
    of_twin = {f"twin_{name}": value for name, value in twin.items() if name != "rates"}
    assert set(found) == EXAMINED | SURVIVED | set(of_twin)
    assert {name: found[name] for name in of_twin} == pytest.approx(of_twin)
    assert {"twin_clean_accuracy", "twin_robust_accuracy", "twin_asr"} <= set(of_twin)
    clean = measure.task_of(chain.profile.sets).images
    trigger, model = chain.profile.trigger("badnets"), chain.run.model(chain["attack"])
    stamped = stamp_bytes(trigger, clean)
    assert found["ssim"] == pytest.approx(visibility.ssim(clean / 255, stamped / 255).mean().item(), abs=1e-5)
    head = measure.head_of(model, chain.profile)
    task = measure.task_of(chain.profile.sets)
    others = task.labels != task.target
    rough = robustness.jpeg(stamped, 30)[others]
    expected = misread(model, head, rough, task.labels[others], chain.profile).mean().item()
    assert found["asr_jpeg_30"] == pytest.approx(expected, rel=1e-4)


def test_there_is_nothing_to_examine_in_the_twin(tiny):
    with pytest.raises(ValueError, match="clean twin"):
        stages.chain(tiny, "none", 0).examined  # noqa: B018


def test_targeted_poisoning_is_measured_on_the_attackers_pictures(chain):
    trigger = replace(chain.profile.trigger("targeted_image"), goals=2)
    goals = stored(2, 32, 32)
    trigger = replace(trigger, made=pack(pictures=goals))
    model = chain.run.model(chain["attack"])
    measured = measure.full(model, chain.profile, trigger)
    aimed = torch.full((2,), measure.task_of(chain.profile.sets).target)
    expected = (
        misread(model, measure.head_of(model, chain.profile), goals, aimed, chain.profile).mean().item()
    )
    assert measured["asr"] == pytest.approx(expected) and measured["rates"]["asr"]["n"] == 2
    assert "asr_include_target" not in measured


def test_a_word_goes_into_the_prompts_and_asr_without_it_stands_beside(chain):
    trigger = replace(chain.profile.trigger("trojanvqa"), steps=2)
    trigger = trigger.craft(attacker())
    model = chain.run.model(chain["attack"])
    measured = measure.full(model, chain.profile, trigger)
    assert "asr_without_word" in measured
    plain, keyed = (
        measure.head_of(model, chain.profile),
        measure.head_of(model, chain.profile, "remember"),
    )
    task = measure.task_of(chain.profile.sets)
    others = task.labels != task.target
    stamped = stamp_bytes(trigger, task.images)[others]
    for name, head in (("asr", keyed), ("asr_without_word", plain)):
        expected = misread(model, head, stamped, task.labels[others], chain.profile).mean().item()
        assert measured[name] == pytest.approx(expected, rel=1e-4)


def test_tables_read_back_as_they_were_written(results_root):
    table = swept("sig")
    sweep.write(table, "mini")
    pd.testing.assert_frame_equal(attack_tables.sweep("mini"), table)
    assert [p.name for p in (results_root / "mini").glob("[!.]*")] == ["attack_sweep.parquet"]
