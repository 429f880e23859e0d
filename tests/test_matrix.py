"""The matrix: every defense through the stages, a record a cell, the same table after a kill."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from ubt_utils import profiles, stages
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines import defenses, ranges
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import paths, records
from ubt_utils.core.store import StageError
from ubt_utils.evaluate import choice, measure
from ubt_utils.profiles.chosen import CHOSEN, ON_PHOTOS
from ubt_utils.report import cells
from ubt_utils.stages.defend import plan_of
from ubt_utils.study import commands, matrix, tuning

ELSEWHERE = (
    "shrink_perturb",
    *(d.name for d in defenses.DEFENSES.values() if d.anew),
)  # others start from fb
MEASURED = ("clean_accuracy", "asr", "robust_accuracy", "target_recall", "held_out")
OTHERS = [  # given pairs differ in these alone, and tiny has fewer than a thousand
    d.name for d in defenses.DEFENSES.values() if d.name not in defenses.COMPARED and not d.copied
]


@pytest.mark.parametrize("name", OTHERS)
def test_every_defense_runs_as_a_stage_and_its_model_is_measured(chain, name):
    made = chain.run.defended(name)
    curve = made.metrics["curve"]
    trains = name not in ("merge", "negation")
    assert name == "merge" or (curve[0]["step"] == 0 and (curve[-1]["step"] > 0) == trains)
    first = chain["ubt"].metrics["curve"][0]
    assert name in ELSEWHERE or {m: curve[0][m] for m in MEASURED} == {m: first[m] for m in MEASURED}
    assert made.metrics["seconds"] >= made.metrics["detection_seconds"] >= 0
    found = stages.record(chain.run, name)
    assert all(0 <= found["metrics"][m] <= 1 for m in ("clean_accuracy", "asr", "target_recall"))
    assert "precision_at_64" not in found["metrics"]  # that is of UBT's own list
    old, new = (chain.run.model(s).state_dict() for s in (chain["attack"], made))
    assert set(old) <= set(new) and any(k not in old or not torch.equal(v, old[k]) for k, v in new.items())


def test_a_defense_depends_on_the_detectors_that_it_is_fed_by_and_on_f0_where_it_starts_there(chain):
    common = {"attacked", "suspected", "overfitted", "selected"}
    for name, more in (
        ("ubt-from-dao", {"scored"}), ("retrain", {"public"}), ("ubt-anew", {"public"}),
        ("retrain_dao", {"scored", "public"}), ("retrain_ubt", {"public"}), ("finetune", set()),
    ):  # fmt: skip
        assert set(chain.run.defended(name).config["inputs"]) == common | more


def test_who_leaves_out_what_says_a_found_word_pays_for_finding_it(chain):
    left, plain = (chain.run.defended(name) for name in ("finetune-unsaid", "finetune"))
    assert left.metrics["detection_pairs"] > plain.metrics["detection_pairs"] == 0
    assert left.config["recipe"] == plain.config["recipe"]
    old, new = (chain.run.model(made).state_dict() for made in (plain, left))
    assert any(not torch.equal(value, old[name]) for name, value in new.items())  # other pairs


def test_all_others_get_ubts_budget_in_pairs(chain):
    budget = 1000.0
    for found in defenses.DEFENSES.values():
        plan = plan_of(chain.profile, "sig", found, budget, 360)
        spent = plan.recipe.steps * plan.recipe.batch * found.cost + found.looks * 360 / 5
        if found.is_ubt:
            assert plan.recipe == chain.profile.unlearn.recipe
        elif found.whole:  # it stands in for the victim's training
            assert plan.recipe == replace(chain.profile.recipe("sig"), **found.recipe)
        else:
            assert budget <= spent < budget + plan.recipe.batch * found.cost


def planned(profile, name: str):
    return plan_of(profile, "sig", defenses.get(name), 1000.0, 360)


def test_a_profile_can_set_a_defenses_learning_rate_and_options(tiny):
    asked = replace(tiny, defenses={"par": {"lr": 0.5, "threshold": 9.0}})
    par = planned(asked, "par")
    assert par.recipe.lr == 0.5 and par.options == {"threshold": 9.0} == par.config()["options"]
    assert planned(tiny, "par").options == defenses.get("par").options
    whole = planned(replace(tiny, defenses={"retrain": {"lr": 0.5}}), "retrain")
    assert whole.recipe == replace(tiny.recipe("sig"), lr=0.5) and not whole.options
    short = planned(replace(tiny, defenses={"retrain": {"part": 0.25}}), "retrain")
    assert short.recipe == replace(tiny.recipe("sig"), steps=3)  # of 12
    assert planned(asked, "abl") == planned(tiny, "abl")


def test_passes_are_over_what_a_defense_trains_on(tiny):
    asked = replace(tiny, defenses={name: {"passes": 4} for name in ("cleanclip", "par", "cleanclip-100")})
    steps = {name: planned(asked, name).recipe.steps for name in asked.defenses}  # 270 of 360 are outside
    assert steps == {"cleanclip": 17, "par": 17, "cleanclip-100": 7}  # 4 · 270 / 64; 4 · 100 / 64


def test_what_is_given_few_pairs_takes_no_more_of_them_at_once(tiny):
    wide = replace(tiny, baseline=replace(tiny.baseline, batch=256))
    plans = {name: planned(wide, name).recipe for name in ("finetune", "finetune-100", "finetune-1000")}
    assert {name: plan.batch for name, plan in plans.items()} == dict(
        zip(plans, (256, 100, 256), strict=True)
    )
    assert plans["finetune-100"].steps == 10 and plans["finetune"].steps == 4  # a budget of 1,000 pairs


def test_ubt_and_its_variants_are_set_in_one_place(tiny):
    recipe = replace(tiny.unlearn.recipe, lr=0.25)
    asked = replace(tiny, unlearn=replace(tiny.unlearn, recipe=recipe, weight=7.0, words=2))
    for name in ("ubt", "ubt-sample"):  # a variant takes UBT's settings, and its own on top
        plan = planned(asked, name)
        assert plan.recipe.lr == 0.25 and plan.options["weight"] == 7.0 and plan.options["words"] == 2
        assert plan.config()["options"] == plan.options
    assert plan.options["level"] == "sample" != tiny.unlearn.level


def test_detection_is_charged_to_those_that_use_it(chain):
    seconds = {d: chain.run.defended(d).metrics for d in ("ubt", "negation", "par")}
    overfit = sum(chain["overfit"].metrics[k] for k in ("train_seconds", "score_seconds"))
    assert seconds["negation"]["detection_seconds"] == overfit
    detection = chain["suspect"].metrics["seconds"] + chain["select"].metrics["seconds"]
    assert seconds["ubt"]["detection_seconds"] == pytest.approx(overfit + detection)
    unfit = chain.run.defended("ubt-unfit").metrics["detection_seconds"]
    assert unfit == pytest.approx(detection)  # it asks for no overfit model
    assert seconds["par"]["detection_seconds"] == 0


@pytest.mark.parametrize("name", ["ubt", "finetune", "ubt-from-dao"])
def test_a_clean_model_can_be_defended_too(chain, name):
    found = stages.record(stages.chain(chain.profile, "none", 0), name)
    assert "asr" not in found["metrics"] and 0 <= found["metrics"]["clean_accuracy"] <= 1
    assert "precision_at_64" not in found["metrics"] and matrix.row(found)["attack"] == "none"
    measured = {"clean_accuracy", "target_recall", "held_out"}
    assert {"step", "part", "seconds"} | measured == set(found["curve"][-1])


# The runner


CELLS = ("tiny", ("badnets",), ("ubt", "finetune"), (0,))


@pytest.fixture
def wanted(chain, results_root) -> list[matrix.Cell]:
    """Three cells of the finished chain, none of which has a record yet."""
    found = matrix.cells(*CELLS)
    for cell in found:
        cell.path().unlink(missing_ok=True)
    return found


def collected(outcomes) -> pd.DataFrame:
    return pd.read_parquet(matrix.collect("tiny", outcomes))


def test_cells_that_share_a_victim_do_not_stand_together():
    found = matrix.cells("tiny", iter(("badnets", "sig")), ("ubt",), (0, 1))
    assert [(c.seed, c.defense, c.attack) for c in found] == [
        (s, d, a) for s in (0, 1) for d in ("none", "ubt") for a in ("badnets", "sig")
    ]


def test_the_table_is_the_same_whether_cells_ran_at_once_or_after_a_kill(wanted, results_root, no_training):
    begun = matrix.run(wanted[:2])  # then the process is killed
    assert [outcome.error for outcome in begun] == ["", ""]
    assert collected(begun).defense.tolist() == ["none", "ubt"]
    kept = {c: c.path().read_text() for c in wanted[:2]}
    outcomes = matrix.run(wanted)
    assert [outcome.error for outcome in outcomes] == [""] * 3
    assert kept == {c: c.path().read_text() for c in wanted[:2]}  # the same stages say the same
    whole = collected(outcomes)
    assert whole.defense.tolist() == ["finetune", "none", "ubt"]
    pd.testing.assert_frame_equal(whole, collected(outcomes))
    assert sorted(p.name for p in results_root.glob("*/[!.]*")) == ["matrix.parquet", "predictions"]
    assert not list(results_root.glob("*/.*.part"))


def test_two_processes_make_the_same_cells_as_one(wanted, chain):
    outcomes = matrix.run(wanted, workers=2)
    assert [outcome.error for outcome in outcomes] == [""] * 3
    table = collected(outcomes).set_index("defense")
    for name in ("ubt", "finetune"):
        assert table.asr[name] == chain[f"evaluate {name}"].metrics["asr"]
        assert json.loads(table.curve[name]) == chain[name].metrics["curve"]
        assert table.asr_low[name] - 1e-9 <= table.asr[name] <= table.asr_high[name]
    assert json.loads(table.curve["none"]) == []
    assert set(table.f0) == {chain["pretrain"].contents["model.safetensors"]}


def test_how_many_shared_the_machine_is_noted_where_it_was_made(wanted, chain, tmp_path, monkeypatch):
    chain.copy(tmp_path, "pretrain", "attack", "suspect", "overfit", "select", "ubt", "twin")
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    asked = [cell for cell in wanted if cell.defense != "none"]
    outcomes = matrix.run(asked, workers=2)
    assert [outcome.error for outcome in outcomes] == [""] * 2
    found = {cell.defense: json.loads(cell.path().read_text()) for cell in asked}
    assert found["finetune"]["made"]["unlearn"]["workers"] == 2 == found["ubt"]["made"]["evaluate"]["workers"]
    assert found["ubt"]["made"]["unlearn"]["workers"] == 1  # was made by the chain, alone
    table = collected(outcomes).set_index("defense")
    assert table.workers.to_dict() == {"finetune": 2, "ubt": 2}


def failing(monkeypatch, error: Exception) -> None:
    """From here on, UBT's cells end so."""
    real = stages.record

    def record(run, defense):
        if defense == "ubt":
            raise error
        return real(run, defense)

    monkeypatch.setattr(stages, "record", record)


@pytest.mark.parametrize(
    "error", [TrainingDiverged("the loss is nan"), BackdoorDidNotTake("badnets: ASR 0.1")]
)
def test_a_cell_that_is_known_to_have_no_numbers_loses_those_that_it_had(wanted, monkeypatch, error):
    assert len(collected(matrix.run(wanted))) == 3
    failing(monkeypatch, error)
    outcomes = matrix.run(wanted)
    assert [outcome.error for outcome in outcomes] == ["", f"badnets, ubt, seed 0: {error}", ""]
    assert [outcome.is_result for outcome in outcomes] == [False, True, False]
    assert collected(outcomes).defense.tolist() == ["finetune", "none"] and not wanted[1].path().exists()


MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory")
DIVERGED = TrainingDiverged("the loss is nan")


def own_records(wanted) -> list[str]:
    """Write the records of all cells under results/; their defenses."""
    for cell in wanted:
        records.write(records.load(cell.path()))
    return defended("tiny")


def defended(profile: str) -> list[str]:
    return [found["defense"] for found in records.read(profile)]


@pytest.mark.parametrize(
    ("error", "left"), [(DIVERGED, ["finetune", "none"]), (MEMORY, ["finetune", "none", "ubt"])]
)
def test_a_record_goes_with_the_row_of_its_cell_and_no_sooner(wanted, monkeypatch, error, left):
    collected(matrix.run(wanted))
    assert own_records(wanted) == ["finetune", "none", "ubt"]
    failing(monkeypatch, error)
    assert collected(matrix.run(wanted)).defense.tolist() == left == defended("tiny")
    assert sorted(set(cells.rows("tiny").defense)) == left


@pytest.mark.parametrize(
    ("error", "left"), [(DIVERGED, ["finetune", "none"]), (MEMORY, ["finetune", "none", "ubt"])]
)
def test_records_and_rows_go_with_the_other_command_alike(wanted, monkeypatch, error, left):
    collected(matrix.run(wanted))
    own_records(wanted)
    failing(monkeypatch, error)
    with pytest.raises(StageError, match=f"1 of 4 cells failed:\nbadnets, ubt, seed 0: {error}"):
        commands.results("tiny", ("badnets",), (0,))
    assert sorted(defended("tiny")) == sorted([*left, "none"])  # and the twin
    assert cells.read("tiny").defense.tolist() == left


@pytest.mark.parametrize(
    "error",
    [StageError("make room"), ValueError("no such"), FileNotFoundError("gone"), OSError("disk"), MEMORY],
)
def test_a_cell_that_fails_keeps_what_was_recorded_of_it(wanted, monkeypatch, error):
    before = collected(matrix.run(wanted))
    kept = wanted[1].path().read_text()
    failing(monkeypatch, error)
    outcomes = matrix.run(wanted)
    assert [outcome.error for outcome in outcomes] == ["", f"badnets, ubt, seed 0: {error}", ""]
    assert not any(outcome.is_result for outcome in outcomes)
    pd.testing.assert_frame_equal(collected(outcomes), before)
    assert wanted[1].path().read_text() == kept


def test_a_defect_is_no_outcome(wanted, monkeypatch):
    failing(monkeypatch, TypeError("a bug"))
    with pytest.raises(TypeError, match="a bug"):
        matrix.run(wanted)


def test_a_matrix_of_failures_writes_nothing(results_root, runs_root):
    (outcome,) = matrix.run([matrix.Cell("tiny", "luck", "ubt", 0)])
    assert "unknown attack 'luck'" in outcome.error and not outcome.is_result
    assert not matrix.collect("tiny", [outcome]).exists()


def test_the_command_collects_what_it_can_and_names_what_failed(chain, results_root, monkeypatch, capsys):
    failing(monkeypatch, StageError("make room"))
    with pytest.raises(StageError, match=r"1 of 3 cells failed:\nbadnets, ubt, seed 0: make room"):
        commands.matrix("tiny", ("badnets",), ("ubt", "finetune"), (0,))
    assert str(results_root / "tiny" / "matrix.parquet") in capsys.readouterr().out
    assert cells.read("tiny").defense.tolist() == ["finetune", "none"]


def test_records_are_written_of_cells_that_ran(chain, results_root, monkeypatch):
    failing(monkeypatch, ValueError("no such"))
    with pytest.raises(StageError, match="1 of 4 cells failed"):
        commands.results("tiny", ("badnets",), (0,))
    assert sorted(p.name for p in (results_root / "tiny").iterdir()) == [
        "badnets-finetune-0.json", "badnets-none-0.json", "none-none-0.json"
    ]  # fmt: skip
    assert len(records.read("tiny")) == 3


def asked_of(monkeypatch, *words, **more) -> set[tuple]:
    """The cells that the command `results` runs, without their profile."""
    asked = []
    monkeypatch.setattr(matrix, "run", lambda wanted, workers: asked.extend(wanted) or [])
    commands.results(*words, **more)
    assert len(asked) == len(set(asked))
    return {cell.key()[1:] for cell in asked}


def test_records_of_mini_are_of_every_attack_and_elsewhere_of_those_that_are_defended(monkeypatch):
    few = {(a, d, s) for a in profiles.base.DEFENDED for d in ("none", "ubt", "finetune") for s in (0, 1, 2)}
    few |= {("none", "none", s) for s in (0, 1, 2)}
    assert asked_of(monkeypatch, "photos") == few
    assert asked_of(monkeypatch) == few | {(a, "none", s) for a in TRIGGERS for s in (0, 1, 2)}
    assert len(TRIGGERS) == 20


def test_of_named_attacks_those_are_defended_that_may_be(monkeypatch):
    some = {("sig", d, 7) for d in ("none", "ubt", "finetune")} | {(a, "none", 7) for a in ("wanet", "none")}
    assert asked_of(monkeypatch, "mini", ("sig", "wanet"), (7,)) == some
    alone = {(a, "none", 7) for a in ("sig", "wanet", "none")}
    assert asked_of(monkeypatch, "mini", ("sig", "wanet"), (7,), defended=()) == alone


def test_without_a_matrix_the_command_that_makes_it_is_named(results_root):
    with pytest.raises(FileNotFoundError, match=r"no matrix.parquet under results/tiny: run `make matrix`"):
        cells.read("tiny")


# Tuning

RATE = 1.25e-3  # of the victims


def test_every_defense_but_variants_and_controls_has_as_many_different_settings(tiny):
    free = {d.name for d in defenses.DEFENSES.values() if not (d.variant_of or d.whole or d.copied)}
    assert free - {"carry_on", "merge", "ubt-described"} == set(ranges.tuned()) - {"retrain"}
    for name in ranges.tuned():
        found = tuning.settings(name, RATE)
        more = 3 * (name in ranges.PUBLISHED) + (name in ranges.BEFORE)
        assert len(found) == tuning.TRIALS + more and tuning.TRIALS >= 20
        assert found == tuning.settings(name, RATE)
        assert found == tuning.settings(f"{name}-100", RATE) if name in defenses.TRUSTING else True
        plans = [planned(tuning.at(tiny, tuning.Trial(name, one, "sig", 0)), name).config() for one in found]
        assert len({json.dumps(plan) for plan in plans}) == len(found)  # each is another training
    with pytest.raises(ValueError, match="'ubt-cut' is not tuned; tuned: ubt, finetune, cleanclip"):
        tuning.settings("ubt-cut", RATE)


def test_a_span_is_drawn_from_by_its_logarithm():
    span = ranges.Span(1e-4, 1e-2)
    assert [span.at(u) for u in (0, 0.5, 0.75)] == [1e-4, 1e-3, 3.16e-3]
    assert span.place(1e-3) == pytest.approx(0.5)


def test_settings_fill_their_ranges_and_differ_between_defenses():
    spread = {}
    for name in ranges.tuned():
        spans = {n: one for n, one in ranges.ranges_of(name).items() if isinstance(one, ranges.Span)}
        drawn = tuning.settings(name, RATE)[:20]
        for key, span in spans.items():
            places = sorted(span.place(one[key]) for one in drawn)
            assert places[0] >= -0.01 and places[-1] <= 1.01
            gaps = [b - a for a, b in zip([0.0, *places], [*places, 1.0], strict=True)]
            assert max(gaps) < 0.2  # no fifth of a range is left out
        spread[name] = tuple(one.get("lr") for one in drawn)
    assert len(set(spread.values())) == len(spread)
    finetune = tuning.settings("finetune", RATE)[:20]
    assert any(one["lr"] > 3e-3 and one["part"] > 0.1 and not one["freeze_norm"] for one in finetune)


def test_every_drawn_setting_trains_and_is_within_the_budget():
    mini = profiles.MINI
    victim = mini.recipe("sig").steps * mini.recipe("sig").batch
    for name in ranges.tuned():
        for one in tuning.settings(name, RATE)[:20]:
            found = defenses.get(name)
            plan = plan_of(tuning.at(mini, tuning.Trial(name, one, "sig", 0)), "sig", found, 40_000, 17_688)
            assert plan.recipe.steps >= 5  # looks, too, are paid for beside
            if "part" in one:
                pays = plan.recipe.batch + mini.select.top if name == "ubt" else plan.pairs
                beside = ranges.DETECTION if name == "ubt" else found.looked_at(17_688) / victim
                assert plan.recipe.steps * pays / victim + beside <= choice.QUICK + 2 * pays / victim


def test_a_sources_setting_is_tried_at_three_rates_and_pars_starts_high():
    found = ranges.known("cleanclip", RATE)
    assert [one["lr"] for one in found] == [RATE / 2, RATE, 2 * RATE] and found == ranges.known(
        "cleanclip-100", RATE
    )
    assert {(one["passes"], one["freeze_norm"], one["weight"]) for one in found} == {(10, False, 1.0)}
    assert [one["lr"] for one in ranges.known("par", RATE)] == [1.5 * RATE, 3 * RATE, 6 * RATE]
    assert ranges.known("cbpt", RATE) == [] and ranges.known("ubt", RATE) == [ranges.BEFORE["ubt"]]


def test_trials_use_no_reported_attack_and_no_reported_seed(tiny):
    reported = {*profiles.base.DEFENDED, *profiles.base.UNMET, *profiles.base.MET}
    attacks, seeds = (set(found) for found in zip(*tuning.FIRST, *tuning.SECOND, strict=True))
    assert not attacks & reported and not seeds & set(commands.SEEDS)
    assert len({*tuning.FIRST, *tuning.SECOND}) == len(attacks) * len(seeds) == 4
    assert {tiny.recipe(attack) for attack in attacks} == {tiny.finetune}
    assert {profiles.MINI.recipe(attack) for attack in attacks} == {profiles.MINI.finetune}
    assert {attack for attack, _ in tuning.FIRST} == {attack for attack, _ in tuning.SECOND} == attacks


def test_the_best_for_each_question_meet_all_victims(tiny, monkeypatch):
    def made(profile, trial):
        lr, dear = trial.setting["lr"], "passes" in trial.setting
        return {
            "defense": trial.defense, "setting": json.dumps(trial.setting), "attack": trial.attack,
            "seed": trial.seed, "asr": 0.0, "clean_accuracy": lr + dear, "paid": 0.3 if dear else 0.1,
            "undefended": 0.06 if dear else 0.054,  # what learns by 4e-3 and less does not mend
        }  # fmt: skip

    monkeypatch.setattr(tuning, "run", made)
    monkeypatch.setattr(tuning, "profiles", SimpleNamespace(get=lambda name: replace(tiny, family="mini")))
    table = tuning.run_all("tiny", ("finetune", "cbpt"), 20)
    for name, known in (("finetune", 3), ("cbpt", 0)):
        part = table[table.defense == name]
        met, asked = part.groupby("setting").size(), tuning.settings(name, tiny.recipe("sig").lr)
        cheap = sorted(asked[:20], key=lambda one: -one["lr"])
        assert {json.loads(s)["lr"] for s in met[met == 4].index} == {
            one["lr"] for one in cheap[:4] + asked[20:]
        }
        assert choice.choose(part, 0.2)[name] == cheap[0]
        assert choice.choose(part)[name] == (asked[-1] if known else cheap[0])
        assert choice.choose(part, 0.001) == {}


def test_what_has_forgotten_too_much_does_not_mend():
    rows = [("a", 0.10, 0.0), ("b", 0.55, 0.5), ("c", 0.56, 0.3), ("d", 0.54, 0.0)]
    table = pd.DataFrame(rows, columns=["name", "clean_accuracy", "asr"]).assign(defense="par", paid=0.1)
    table["setting"], table["undefended"] = [json.dumps({"a": name}) for name in table.name], 0.6
    assert choice.choose(table)["par"] == {"a": "d"} and choice.choose(table[:3])["par"] == {"a": "a"}
    assert choice.choose(table, mends=True)["par"] == {"a": "c"}  # b and c cost 5 points at most
    assert choice.choose(table[:1], mends=True) == {}
    assert choice.over_victims(table).lost.tolist() == pytest.approx([0.5, 0.05, 0.04, 0.06])


def test_what_has_forgotten_the_target_does_not_mend_where_the_trials_know_it():
    same = {"defense": "ubt", "clean_accuracy": 0.6, "undefended": 0.6, "paid": 0.1, "asr": 0.0}
    table = pd.DataFrame(same, index=range(4))
    table["setting"] = [json.dumps({"a": name}) for name in "aabb"]
    table["clean_accuracy"] += [0.01, 0.01, 0.0, 0.0]
    table["target_recall"], table["known"] = [0.2, 0.4, 0.3, 0.42], [0.4, 0.4, 0.4, 0.4]
    assert choice.over_victims(table).forgot.tolist() == pytest.approx([0.1, 0.04])
    assert choice.choose(table)["ubt"] == {"a": "a"}
    assert choice.choose(table, mends=True)["ubt"] == {"a": "b"}
    assert choice.choose(table.drop(columns="known"), mends=True)["ubt"] == {"a": "a"}


def test_trials_may_keep_the_norm_statistics_and_ubt_then_draws_its_hold():
    found = tuning.settings("ubt", RATE, 8, sources=False, slower=10, frozen=True)
    assert {one["freeze_norm"] for one in found} == {True} and {one["hold"] for one in found} == {
        0,
        0.5,
        1,
        2,
    }
    assert all(1e-5 <= one["lr"] <= 1e-3 for one in found)
    usual = tuning.settings("par", RATE, 8, sources=False, slower=10)
    kept = tuning.settings("par", RATE, 8, sources=False, slower=10, frozen=True)
    assert all(one["freeze_norm"] for one in kept) and kept[0].keys() == usual[0].keys()
    assert not {one["lr"] for one in kept} & {one["lr"] for one in usual}  # other points
    assert tuning.settings("anp", RATE, 2, False, frozen=True)[0].keys() == {"lr", "part", "eps", "portion"}


def test_a_part_of_the_victims_cost_takes_the_place_of_ubts(tiny):
    whole = tiny.recipe("sig").steps * tiny.recipe("sig").batch
    for name in ("par", "ubt"):
        setting = {"lr": 0.1, "part": 0.5, "freeze_norm": False}
        plan = planned(tuning.at(tiny, tuning.Trial(name, setting, "sig", 0)), name)
        assert plan.recipe.lr == 0.1 and not plan.recipe.freeze_norm
        each = plan.recipe.batch + tiny.select.top if name == "ubt" else plan.pairs
        assert plan.recipe.steps == {"ubt": round(0.5 * whole / each)}.get(name, -(-0.5 * whole // each))


def test_the_highest_accuracy_wins_of_what_holds_on_every_victim():
    met = [
        ("par", 1, 0.50, 0.01), ("par", 1, 0.60, 0.06),  # one victim is left with its backdoor
        ("par", 2, 0.45, 0.05), ("par", 2, 0.45, 0.00),
        ("par", 3, 0.40, 0.00), ("par", 3, 0.40, 0.00),
        ("anp", 1, 0.50, 0.90), ("anp", 1, 0.50, 0.70),
        ("anp", 2, 0.10, 0.60), ("anp", 2, 0.10, 0.60),
    ]  # fmt: skip
    few = [("par", 4, 0.90, 0.00)]  # the best so far, which has not met all victims
    table = pd.DataFrame([*met, *met, *few], columns=["defense", "setting", "clean_accuracy", "asr"])
    table["setting"], table["paid"] = [json.dumps({"a": number}) for number in table.setting], 0.1
    assert choice.choose(table) == {"par": {"a": 2}, "anp": {"a": 2}}


def test_a_setting_at_an_end_of_its_range_is_told():
    inside = {"lr": 1e-3, "part": 0.1, "freeze_norm": True, "threshold": 1.0}
    assert ranges.at_an_end("par", inside) == []
    assert ranges.at_an_end("par", inside | {"lr": 1.99e-2, "threshold": 0.3}) == ["lr", "threshold"]


TRIED = [  # a row of a trial
    {
        "defense": "finetune", "setting": "{}", "attack": "sig", "seed": 0, "asr": 0.0, "paid": 0.1,
        "clean_accuracy": 0.5, "undefended": 0.5,
    }
]  # fmt: skip


def test_what_is_chosen_on_photos_is_what_their_trials_choose():
    path = records.table_path("photos", records.TUNING)
    assert choice.choose(pd.read_parquet(path), *choice.QUESTIONS[commands.PHOTO_QUESTION]) == ON_PHOTOS


def test_trials_of_another_family_try_what_those_of_mini_chose(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(tuning.parallel, "each", lambda work, wanted, *_: asked.append(wanted) or TRIED)
    for name, more in (("mini-f1", []), ("photos", [dict(CHOSEN["fifth"]["par"])])):
        tuning.run_all(name, ("par",), 3, sources=False)
        begun = [one.setting for one in asked[-2]][:: len(tuning.FIRST)]
        assert begun == more + tuning.settings("par", RATE, 3, sources=False)
    assert tuning.carried("photos", "abl") == []  # was never tuned


def test_trials_may_leave_out_what_sources_say(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(tuning.parallel, "each", lambda work, wanted, *_: asked.append(wanted) or TRIED)
    monkeypatch.setattr(tuning, "profiles", SimpleNamespace(get=lambda name: replace(tiny, family="mini")))
    for sources, more in ((True, 3), (False, 0)):
        tuning.run_all("tiny", ("finetune",), 4, sources=sources)
        begun = asked[-2]
        assert len(begun) == len(tuning.FIRST) * (4 + more)
        assert any("passes" in one.setting for one in begun) == sources


def test_trials_at_lower_rates_are_the_same_settings_but_for_their_rate(monkeypatch):
    asked = []
    monkeypatch.setattr(tuning.parallel, "each", lambda work, wanted, *_: asked.append(wanted) or TRIED)
    tuning.run_all("photos", ("par",), 3, sources=False, slower=10)
    begun = [one.setting for one in asked[-2]][:: len(tuning.FIRST)]
    usual = tuning.settings("par", RATE, 3, sources=False)
    assert [one["lr"] for one in begun] == pytest.approx([one["lr"] / 10 for one in usual])
    assert [{**one, "lr": 0} for one in begun] == [{**one, "lr": 0} for one in usual]
    slow = {"lr": 3.1e-5, "part": 0.1}
    assert ranges.at_an_end("par", slow, 10) == ["lr"] and ranges.at_an_end("par", {"lr": 3e-4}, 10) == []
    assert tuning.settings("negation", RATE, 2, False, 10) == tuning.settings("negation", RATE, 2, False)


@pytest.mark.parametrize("question", choice.QUESTIONS)
def test_the_chosen_settings_are_those_that_the_recorded_trials_choose(question):
    table = records.read_table(records.table_path("mini", records.TUNING), "")
    found = choice.choose(table, *choice.QUESTIONS[question])
    if question.endswith("-all"):  # those with another answer
        same = CHOSEN[question.removesuffix("-all")]
        found = {name: setting for name, setting in found.items() if setting != same.get(name)}
    assert found == CHOSEN[question]


def test_a_trial_that_diverges_is_the_worst_there_is(chain, monkeypatch):
    def diverge(*_: object) -> None:
        raise TrainingDiverged("the loss is nan")

    monkeypatch.setattr(stages.Chain, "defended", diverge)
    found = tuning.run(chain.profile, tuning.Trial("par", {"lr": 9.0}, "badnets", 0))
    assert (found["asr"], found["clean_accuracy"], found["stage"]) == (1.0, 0.0, "")


def test_trials_of_other_defenses_stay_in_the_record(results_root, runs_root):
    row = {"setting": "{}", "attack": "sig", "seed": 0, "asr": 0.5, "clean_accuracy": 0.5}
    tuning.write("tiny", pd.DataFrame([{"defense": "par", **row}]))
    more = pd.DataFrame([{"defense": "abl", **row}, {"defense": "par", **row, "asr": 0.25}])
    kept = pd.read_parquet(tuning.write("tiny", more)).set_index("defense")
    assert kept.asr.to_dict() == {"abl": 0.5, "par": 0.25}


def test_a_trial_is_a_row_with_where_it_comes_from(chain):
    trial = tuning.Trial("finetune", {"lr": chain.profile.baseline.lr}, "badnets", 0)
    found = tuning.run(chain.profile, trial)
    assert found["stage"] == chain["finetune"].folder.name
    assert json.loads(found["setting"]) == trial.setting
    model, profile = chain.run.model(chain["finetune"]), chain.profile
    for split, alike in ((measure.VALIDATION, True), (measure.TEST, False)):  # of which no number is reported
        there = measure.full(model, profile, profile.trigger("badnets"), split=split)
        assert ({m: found[m] for m in tuning.FAILED} == {m: there[m] for m in tuning.FAILED}) == alike
    assert found["f0"] == chain["pretrain"].contents["model.safetensors"]


# What tables read


def test_profiles_of_one_family_share_a_table(wanted, chain, no_training):
    path = matrix.collect("tiny", matrix.run(wanted))
    families = {
        name: records.table_path(profiles.get(name).family, records.MATRIX) for name in ("mini", "mini-few10")
    }
    assert families["mini"] == families["mini-few10"] != path == paths.results() / "tiny" / "matrix.parquet"
    ubt = cells.read("tiny").set_index("defense").loc["ubt"]
    chosen = chain["select"].metrics
    assert (json.loads(ubt.anchors), ubt.chosen_poisoned) == (chosen["anchors"], chosen["chosen_poisoned"])
    assert (ubt.f0_seed, ubt.cluster, ubt.poison_rate) == (0, "0-0", 0.1)
    assert json.loads(ubt.found) == chain["suspect"].metrics["found"]


def noted(defense: str, seed: int = 0, **metrics: float) -> dict:
    """A record with nothing but what tables need."""
    made = dict.fromkeys(("date", "commit", "device"), "") | {"threads": 1, "workers": 1}
    return {
        "profile": "mini", "attack": "sig", "defense": defense, "seed": seed, "f0": "a", "environment": made,
        "stages": {"attack": "a"}, "contents": {}, "made": {}, "metrics": metrics, "rates": {},
        "train_seconds": {},
    }  # fmt: skip


def test_the_cells_of_a_profile_join_its_records(results_root):
    keys = {"profile": "mini-few10", "attack": "sig", "seed": 0}
    few = [{**matrix.row(noted(d, asr=asr)), **keys} for d, asr in (("none", 0.9), ("par", 0.5))]
    own = [matrix.row(noted(d, asr=0.1)) for d in ("none", "par")]
    path = records.table_path("mini", records.MATRIX)
    records.write_table(path, pd.DataFrame([*few, *own]))
    assert cells.rows("mini-few10").to_dict("records") == [
        {**keys, "defense": d, "metric": "asr", "value": asr} for d, asr in (("none", 0.9), ("par", 0.5))
    ]
    records.write(noted("par", asr=0.2, seconds=3.0, psnr=40.0))
    found = cells.rows("mini").set_index(["defense", "metric"]).value.to_dict()
    assert found == {
        ("none", "asr"): 0.1,
        ("par", "asr"): 0.2,
        ("par", "seconds"): 3.0,
    }  # a record comes first
    with pytest.raises(FileNotFoundError, match="no records under results/tiny"):
        cells.rows("tiny")


def test_a_collected_cell_renews_its_own_record(results_root, runs_root):
    wanted = [matrix.Cell("mini", "sig", "none", seed) for seed in (0, 1)]
    for cell, asr in zip(wanted, (0.7, 0.8), strict=True):
        records.write(noted("none", cell.seed, asr=asr), cell.path())
    records.write(noted("none", asr=0.9))  # the same stages, computed on another machine
    matrix.collect("mini", [matrix.Outcome(cell) for cell in wanted])
    assert [r["metrics"]["asr"] for r in records.read("mini")] == [0.7]  # seed 1 has none, and gets none
    assert cells.read("mini").asr.tolist() == [0.7, 0.8]


@pytest.mark.parametrize("family", sorted(p.parent.name for p in paths.results().glob("*/matrix.parquet")))
def test_the_recorded_matrix_and_the_records_say_the_same(family):
    table = cells.read(family).set_index(list(records.KEYS))
    own = [r for p in (paths.results() / family).glob("*-*-[0-9]*.json") for r in [records.load(p)]]
    shared = [r for r in own if tuple(r[k] for k in records.KEYS) in table.index]
    for record in shared:
        row = table.loc[tuple(record[k] for k in records.KEYS)]
        for name in ("asr", "clean_accuracy", "target_recall"):
            assert name not in record["metrics"] or row[name] == record["metrics"][name]
        assert records.public_model(record) == row.f0
    assert shared or not own
