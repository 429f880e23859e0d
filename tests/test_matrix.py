"""The matrix: every defense through the stages, a record a cell, the same table after a kill."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from ubt_utils import profiles, stages
from ubt_utils.baselines import defenses
from ubt_utils.report import tables
from ubt_utils.report.profile_tables import DEFENDED
from ubt_utils.stages.defend import plan_of
from ubt_utils.study import matrix, tuning
from ubt_utils.study.recording import SEEDS

ELSEWHERE = ("retrain", "shrink_perturb")  # all others start from fb
OTHERS = [name for name in defenses.DEFENSES if name not in defenses.COMPARED]


@pytest.mark.parametrize("name", OTHERS)
def test_every_defense_runs_as_a_stage_and_its_model_is_measured(chain, name):
    made = stages.unlearn(chain.profile, "badnets", 0, name)
    curve = made.metrics["curve"]
    assert curve[0]["step"] == 0 and curve[-1]["step"] > 0
    assert name in ELSEWHERE or curve[0] == chain["ubt"].metrics["curve"][0]
    assert made.metrics["seconds"] >= made.metrics["detection_seconds"] >= 0
    found = stages.record(chain.profile, "badnets", 0, name)
    assert all(0 <= found["metrics"][m] <= 1 for m in ("clean_accuracy", "asr", "target_recall"))
    assert "precision_at_64" not in found["metrics"]  # that is of UBT's own list
    old, new = (stages.load_model(chain.profile, s).state_dict() for s in (chain["attack"], made))
    assert set(old) <= set(new) and any(k not in old or not torch.equal(v, old[k]) for k, v in new.items())


def test_all_others_get_ubts_budget_in_pairs(chain):
    budget = 1000.0
    for name, found in defenses.DEFENSES.items():
        plan = plan_of(chain.profile, name, budget, 360)
        spent = plan.recipe.steps * plan.recipe.batch * found.cost + found.looks * 360 / 3
        if found.is_ubt:
            assert plan.recipe.steps == chain.profile.unlearn.recipe.steps
        else:
            assert budget <= spent < budget + plan.recipe.batch * found.cost


def test_a_profile_can_set_a_defenses_learning_rate_and_options(tiny):
    asked = replace(tiny, defenses={"par": {"lr": 0.5, "threshold": 9.0}, "ubt": {"lr": 0.25, "weight": 7.0}})
    par = plan_of(asked, "par", 1000.0, 360)
    assert par.recipe.lr == 0.5 and par.options == {"threshold": 9.0} == par.config["options"]
    assert plan_of(tiny, "par", 1000.0, 360).options == defenses.get("par").options
    for name in ("ubt", "ubt-sample"):  # a variant takes UBT's settings, and its own on top
        plan = plan_of(asked, name, 1000.0, 360)
        assert plan.recipe.lr == 0.25 and plan.options["weight"] == 7.0
    assert plan.options["level"] == "sample" != tiny.unlearn.level


def test_detection_is_charged_to_those_that_use_it(chain):
    seconds = {d: stages.unlearn(chain.profile, "badnets", 0, d).metrics for d in ("ubt", "negation", "par")}
    overfit = sum(chain["overfit"].metrics[k] for k in ("train_seconds", "score_seconds"))
    assert seconds["negation"]["detection_seconds"] == overfit
    assert seconds["ubt"]["detection_seconds"] == overfit + chain["select"].metrics["seconds"]
    assert seconds["par"]["detection_seconds"] == 0


@pytest.mark.parametrize("name", ["ubt", "finetune", "ubt-from-dao"])
def test_a_clean_model_can_be_defended_too(chain, name):
    found = stages.record(chain.profile, "none", 0, name)
    assert "asr" not in found["metrics"] and 0 <= found["metrics"]["clean_accuracy"] <= 1
    assert "precision_at_64" not in found["metrics"] and matrix.row(found)["attack"] == "none"
    assert {"step", "clean_accuracy", "target_recall"} == set(found["curve"][-1])


# The runner


CELLS = ("tiny", ("badnets",), ("ubt", "finetune"), (0,))


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_cells_that_share_a_victim_do_not_stand_together():
    found = matrix.cells("tiny", iter(("badnets", "sig")), ("ubt",), (0, 1))
    assert [(c.seed, c.defense, c.attack) for c in found] == [
        (s, d, a) for s in (0, 1) for d in ("none", "ubt") for a in ("badnets", "sig")
    ]


def test_the_table_is_the_same_whether_cells_ran_at_once_or_after_a_kill(chain, results, no_training):
    wanted = matrix.cells(*CELLS)
    for cell in wanted:
        cell.path().unlink(missing_ok=True)
    assert [matrix.run_cell(cell) for cell in wanted[:2]] == ["", ""]  # then the process is killed
    partial = pd.read_parquet(matrix.collect("tiny", wanted))
    assert partial.defense.tolist() == ["none", "ubt"]
    kept = {c: c.path().read_text() for c in wanted[:2]}
    for cell in wanted:
        assert matrix.run_cell(cell) == ""
    assert kept == {c: c.path().read_text() for c in wanted[:2]}  # a finished cell is not written again
    whole = pd.read_parquet(matrix.collect("tiny", wanted))
    assert whole.defense.tolist() == ["finetune", "none", "ubt"]
    again = pd.read_parquet(matrix.collect("tiny", wanted))
    pd.testing.assert_frame_equal(whole, again)
    assert not list(results.glob("*/*.part"))


def test_two_processes_make_the_same_cells_as_one(chain, results):
    wanted = matrix.cells(*CELLS)
    for cell in wanted:
        cell.path().unlink(missing_ok=True)
    assert matrix.run(wanted, workers=2) == []
    table = pd.read_parquet(matrix.collect("tiny", wanted)).set_index("defense")
    for name in ("ubt", "finetune"):
        assert table.asr[name] == chain[f"evaluate {name}"].metrics["asr"]
        assert json.loads(table.curve[name]) == chain[name].metrics["curve"]
        assert table.asr_low[name] - 1e-9 <= table.asr[name] <= table.asr_high[name]
    assert json.loads(table.curve["none"]) == []


def test_a_cell_that_fails_is_told_and_the_others_go_on(chain, results, monkeypatch):
    wanted = matrix.cells(*CELLS)
    real = stages.record

    def record(profile, attack, seed, defense):
        if defense == "ubt":
            raise matrix.TrainingDiverged("the loss is nan")
        return real(profile, attack, seed, defense)

    assert [matrix.run_cell(cell) for cell in wanted] == [""] * 3
    matrix.collect("tiny", wanted)
    monkeypatch.setattr(matrix.stages, "record", record)
    assert [matrix.run_cell(cell) for cell in wanted] == ["", "badnets, ubt, seed 0: the loss is nan", ""]
    kept = pd.read_parquet(matrix.collect("tiny", wanted))  # what the failed cell reached before is gone
    assert kept.defense.tolist() == ["finetune", "none"]


def test_a_matrix_of_failures_writes_nothing(results):
    wanted = [matrix.Cell("tiny", "luck", "ubt", 0)]
    assert "unknown attack 'luck'" in matrix.run_cell(wanted[0])
    assert not matrix.collect("tiny", wanted).exists()


def test_without_a_matrix_the_command_that_makes_it_is_named(results):
    with pytest.raises(FileNotFoundError, match=r"no matrix.parquet under results/tiny: run `make matrix`"):
        matrix.read("tiny")


# Tuning


def test_every_defense_but_the_variants_has_the_same_number_of_different_settings(tiny):
    assert {d for d in defenses.DEFENSES if d not in defenses.ubt.VARIANTS} == set(tuning.tuned())
    for name in tuning.tuned():
        found = tuning.settings(tiny, name)
        assert len(found) == 4 == len({json.dumps(s) for s in found})
        plan_of(tiny, name, 1000.0, 360)
    with pytest.raises(ValueError, match="'ubt-cut' is not tuned; tuned: ubt, cleanclip"):
        tuning.settings(tiny, "ubt-cut")


def test_trials_use_no_reported_attack_and_no_reported_seed(tiny):
    assert tuning.ATTACK not in DEFENDED and not set(tuning.SEEDS) & set(SEEDS)
    assert len(tuning.trials(tiny, ("ubt", "par"))) == 2 * 4 * len(tuning.SEEDS)


def test_the_setting_of_the_largest_difference_wins_over_all_seeds():
    rows = [
        ("par", '{"a": 1}', 0, 0.50, 0.10), ("par", '{"a": 1}', 1, 0.50, 0.90),
        ("par", '{"a": 2}', 0, 0.45, 0.30), ("par", '{"a": 2}', 1, 0.45, 0.30),
        ("ubt", '{"b": 1}', 0, 0.50, 0.00), ("ubt", '{"b": 2}', 0, 0.50, 0.00),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["defense", "setting", "seed", "clean_accuracy", "asr"])
    assert tuning.choose(table) == {"par": {"a": 2}, "ubt": {"b": 1}}


def test_the_settings_of_mini_are_those_that_the_recorded_trials_choose():
    assert tuning.choose(tuning.read("mini")) == profiles.MINI.defenses
    assert profiles.TINY.defenses == {}  # its numbers mean nothing


def test_a_trial_that_diverges_is_the_worst_there_is(chain, monkeypatch):
    def diverge(*_: object) -> None:
        raise matrix.TrainingDiverged("the loss is nan")

    monkeypatch.setattr(tuning.stages, "unlearn", diverge)
    found = tuning.run(chain.profile, tuning.Trial("par", {"lr": 9.0}, 0))
    assert (found["asr"], found["clean_accuracy"], found["stage"]) == (1.0, 0.0, "")


def test_trials_of_other_defenses_stay_in_the_record(results):
    row = {"setting": "{}", "seed": 0, "asr": 0.5, "clean_accuracy": 0.5}
    tuning.write("tiny", pd.DataFrame([{"defense": "par", **row}]))
    tuning.write("tiny", pd.DataFrame([{"defense": "abl", **row}, {"defense": "par", **row, "asr": 0.25}]))
    assert tuning.read("tiny").set_index("defense").asr.to_dict() == {"abl": 0.5, "par": 0.25}


def test_a_trial_is_a_row_with_where_it_comes_from(chain, monkeypatch):
    monkeypatch.setattr(tuning, "ATTACK", "badnets")
    trial = tuning.Trial("finetune", {"lr": chain.profile.baseline.lr}, 0)
    found = tuning.run(chain.profile, trial)
    last = chain["finetune"].metrics["curve"][-1]
    assert found["stage"] == chain["finetune"].folder.name and found["asr"] == last["asr"]
    assert json.loads(found["setting"]) == trial.setting and math.isfinite(found["clean_accuracy"])


def test_curves_are_read_from_the_table():
    point = {"step": 5, "asr": 0.25}
    keys = {"profile": "mini", "attack": "sig", "defense": ["none", "ubt"], "seed": 0}
    table = pd.DataFrame({**keys, "curve": ["[]", json.dumps([point])]})
    told = matrix.curves(table).to_dict("records")
    assert told == [{"profile": "mini", "attack": "sig", "defense": "ubt", "seed": 0, **point}]


def test_profiles_of_one_family_share_a_table(chain, results, no_training):
    wanted = matrix.cells(*CELLS)
    assert [matrix.run_cell(cell) for cell in wanted] == [""] * 3
    first = matrix.collect("tiny", wanted)
    assert matrix.path_of("mini-few10") == matrix.path_of("mini") != first
    ubt = matrix.read("tiny").set_index("defense").loc["ubt"]
    chosen = chain["select"].metrics
    assert (ubt.anchor, ubt.chosen_poisoned) == (chosen["anchor"], chosen["chosen_poisoned"])


def test_the_cells_of_a_profile_join_its_records(results):
    keys = {"profile": "mini-few10", "attack": "sig", "seed": 0}
    cells = pd.DataFrame(
        [{**keys, "defense": d, "asr": asr, "seconds": None} for d, asr in (("none", 0.9), ("par", 0.5))]
    )
    path = matrix.path_of("mini")
    path.parent.mkdir(parents=True)
    pd.concat([cells, cells.assign(profile="mini", asr=0.1)]).to_parquet(path)
    assert matrix.rows("mini-few10").to_dict("records") == [
        {**keys, "defense": d, "metric": "asr", "value": asr} for d, asr in (("none", 0.9), ("par", 0.5))
    ]
    record = {"profile": "mini", "attack": "sig", "defense": "par", "seed": 0, "stages": {}}
    tables.write(record | {"metrics": {"asr": 0.2, "seconds": 3.0, "psnr": 40.0}})
    told = matrix.rows("mini").set_index(["defense", "metric"]).value.to_dict()
    assert told == {
        ("none", "asr"): 0.1,
        ("par", "asr"): 0.2,
        ("par", "seconds"): 3.0,
    }  # a record comes first
    with pytest.raises(FileNotFoundError, match="no records under results/tiny"):
        matrix.rows("tiny")


def test_a_collected_cell_renews_its_own_record(results, tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "cells"))
    keys = {"profile": "mini", "attack": "sig", "defense": "none", "seed": 0}
    told = {**keys, "stages": {"attack": "a"}, "environment": dict.fromkeys(("date", "commit", "device"), "")}
    wanted = [matrix.Cell("mini", "sig", "none", seed) for seed in (0, 1)]
    for cell, asr in zip(wanted, (0.7, 0.8), strict=True):
        tables.write_record(cell.path(), told | {"seed": cell.seed, "metrics": {"asr": asr}, "rates": {}})
    tables.write(told | {"metrics": {"asr": 0.9}})  # the same stages, computed on another machine
    matrix.collect("mini", wanted)
    assert tables.rows("mini").value.tolist() == [0.7]  # seed 1 has no record of its own, and gets none
    assert matrix.read("mini").asr.tolist() == [0.7, 0.8]


def test_the_recorded_matrix_and_the_records_say_the_same():
    table, own = matrix.read("mini"), tables.rows("mini")
    own = own[own.metric.isin(("asr", "clean_accuracy", "target_recall"))]
    both = own.pivot(index=list(tables.KEYS), columns="metric", values="value")
    cells = table.set_index(list(tables.KEYS))[list(both.columns)]
    shared = both.index.intersection(cells.index)
    assert len(shared) > 0
    pd.testing.assert_frame_equal(both.loc[shared], cells.loc[shared], check_names=False)
