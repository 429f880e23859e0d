"""How the rivals got their settings and what they reach, on made-up trials and runs whose answer is known."""

import json
import math

import pandas as pd
import pytest
from tried import GENTLE, SOURCE, STRONG, trials

from ubt_utils.core import records
from ubt_utils.evaluate import choice
from ubt_utils.report import defense_tables


@pytest.fixture
def tuning(results_root):
    records.write_table(records.table_path("mini", records.TUNING), trials())


def test_settings_are_measured_by_all_victims_that_they_met():
    par = trials().query("defense == 'par'")
    found = choice.over_victims(par)
    assert found.index.tolist() == [json.dumps(one) for one in (GENTLE, STRONG, SOURCE)]
    assert found.victims.tolist() == [4, 4, 2] and found.worst.tolist() == [0.10, 0.05, 0.04]
    assert found.asr.tolist() == pytest.approx([0.04, 0.02, 0.02])
    assert found.paid.tolist() == pytest.approx([0.1, 0.15, 0.3])
    assert choice.met_all(found).tolist() == [True, True, False]
    assert choice.ranked(found) == [json.dumps(one) for one in (SOURCE, STRONG, GENTLE)]
    assert choice.chosen(found) == json.dumps(STRONG) and choice.choose(par) == {"par": STRONG}
    assert choice.over_victims(par.drop(columns="paid")).paid.isna().all()
    assert choice.chosen(found, 0.12) == json.dumps(GENTLE) and choice.chosen(found, 0.01) == ""
    assert choice.choose(trials(), 0.12)["par"] == GENTLE


def test_a_budget_chooses_among_what_it_pays_for(tuning):
    found = defense_tables.tuned(most=0.12)
    assert found.loc["par", "setting"] == defense_tables.in_words(GENTLE) and not found.loc["par", "holds"]
    assert "par" not in defense_tables.tuned(most=0.05).index


def test_what_holds_comes_first_then_the_more_accurate_and_ubt_is_one_of_all(tuning):
    found = defense_tables.tuned()
    assert found.index.tolist() == ["par", "ubt", "negation"] and found.holds.tolist() == [True, True, False]
    assert found.settings.tolist() == [3, 1, 2] and found.hold.tolist() == [2, 1, 0]


def test_the_chosen_setting_stands_with_its_rates_its_price_and_its_ends(tuning):
    found = defense_tables.tuned()
    par = found.loc["par"]
    assert par.setting == "lr 0.02, part 0.1, freeze_norm no, threshold 1" and par["at an end"] == "lr"
    assert par[["ASR", "worst ASR", "CA", "paid"]].tolist() == pytest.approx([0.02, 0.05, 0.41, 0.15])
    assert found.victims.tolist() == [4, 4, 4] and found.loc["negation", "at an end"] == ""
    assert found.loc["negation", ["ASR", "CA", "paid"]].tolist() == pytest.approx([0.85, 0.60, 0.02])


def test_the_sources_setting_stands_beside_on_the_victims_that_it_met(tuning):
    found = defense_tables.tuned().filter(like="source's").rename(columns=lambda name: name[9:])
    assert found.loc["par"].tolist() == pytest.approx([0.02, 0.04, 0.52, 2])
    assert found.drop("par").isna().all(axis=None)


def test_tuning_without_trials_names_the_command(results_root):
    with pytest.raises(FileNotFoundError, match="run `python -m ubt_utils tune`"):
        defense_tables.tuned()


# Who removes what

ENDS = {  # defense → attack → ASR of the clusters 0-0 and 0-1
    "none": {"badnets": (0.9, 1.0), "sig": (0.8, 0.9)},
    "ubt": {"badnets": (0.0, 0.05), "sig": (0.0, 0.2)},
    "par": {"badnets": (0.0, 0.01)},
    "merge": {"badnets": (0.06, 0.5), "sig": (0.5, 0.5)},
    "ubt-retain": {"badnets": (0.0, 0.0)},  # a variant
}
WAYS = {"ubt": [0.1, 0.2], "par": [0.3], "ubt-retain": [0.1]}  # the part of the victim's cost on the way


def run(defense: str, attack: str, seed: int, asr: float, profile: str = "mini") -> dict:
    way = [
        {"step": i, "part": part, "seconds": i, "asr": asr} for i, part in enumerate(WAYS.get(defense, []))
    ]
    return {
        "profile": profile, "attack": attack, "defense": defense, "seed": seed, "f0": "one", "f0_seed": 0,
        "poison_rate": 0.01, "cluster": f"0-{seed}", "asr": asr, "clean_accuracy": 0.5 + 0.1 * seed,
        "target_recall": 0.5, "robust_accuracy": 0.5, "curve": json.dumps(way), "detection_seconds": None,
        "seconds": None if defense == "none" else 10.0 + seed,
    }  # fmt: skip


@pytest.fixture
def met(results_root):
    rows = [
        run(defense, attack, seed, asr)
        for defense, attacks in ENDS.items()
        for attack, ends in attacks.items()
        for seed, asr in enumerate(ends)
    ]
    rows += [run("par", "none", 0, 0.9), run("par", "badnets", 0, 0.9, "mini-scarce")]  # neither counts
    records.write_table(records.table_path("mini", records.MATRIX), pd.DataFrame(rows))


def test_clusters_are_counted_on_which_the_backdoor_is_gone(met):
    found = defense_tables.removed(attacks=("badnets", "sig"))
    assert found.index.tolist() == ["none", "par", "ubt", "merge"]  # undefended, then by ASR
    assert found.badnets.tolist() == ["0 of 2", "2 of 2", "2 of 2", "0 of 2"]  # 5 % is gone
    assert found.sig.tolist() == ["0 of 2", "", "1 of 2", "0 of 2"] and found.runs.tolist() == [4, 2, 4, 4]
    assert found.ASR.tolist() == pytest.approx([0.9, 0.005, 0.0625, 0.39])
    assert found["worst ASR"].tolist() == [1.0, 0.01, 0.2, 0.5] and found.CA.tolist() == [0.55] * 4


def test_what_it_costs_is_the_end_of_its_way_and_what_trains_nothing_is_free(met):
    found = defense_tables.removed(attacks=("badnets", "sig"))
    assert found.part[["par", "ubt", "merge"]].tolist() == pytest.approx([0.3, 0.2, 0.0])
    assert math.isnan(found.part["none"]) and math.isnan(found.seconds["none"])
    assert found.seconds["ubt"] == 10.5
    seen = found.sees[["none", "par", "ubt"]].tolist()
    assert seen == ["", "D_safe", "D, overfit, detection"]


def test_a_cluster_with_one_run_that_failed_has_failed(met):
    every = defense_tables.removed(attacks=("badnets",), profiles=None)
    assert every.badnets["par"] == "1 of 2" and every.runs["par"] == 3


def test_variants_stand_there_where_they_are_named(met):
    found = defense_tables.removed(attacks=("badnets",), which=("ubt-retain", "par"))
    assert found.index.tolist() == ["ubt-retain", "par"]


# Detection at test time


def test_detection_at_test_time_is_told_by_attack_the_least_sure_first(met):
    assert defense_tables.at_test_time().empty  # of runs from before it was measured
    path = records.table_path("mini", records.MATRIX)
    table = pd.read_parquet(path)
    asked = table.defense == "none"
    table.loc[asked, "bdetclip_auroc"] = [0.7, 0.9, 0.4, 0.6]  # badnets, then sig
    table.loc[asked, "bdetclip_fpr_at_95_tpr"] = [0.5, 0.3, 1.0, 0.8]
    table.to_parquet(path)
    found = defense_tables.at_test_time()
    assert found.index.tolist() == [("sig", 0.01), ("badnets", 0.01)]
    assert found.auroc.tolist() == pytest.approx([0.5, 0.8]) and found.least.tolist() == [0.4, 0.7]
    assert found.false_alarms.tolist() == pytest.approx([0.9, 0.4])
    assert found.runs.tolist() == [2, 2] and found.clusters.tolist() == [2, 2]
