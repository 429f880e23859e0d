"""The tables of the study, counted by hand on a made-up family of two public models and two seeds."""

import json

import numpy as np
import pandas as pd
import pytest
from counted import FAMILY, RUNS, cell, frame, keys_of, record, way, write

from ubt_utils import profiles
from ubt_utils.core import records
from ubt_utils.evaluate import statistics
from ubt_utils.profiles.rounds import FIFTH, SIXTH, Round
from ubt_utils.report import evidence, study_tables
from ubt_utils.study import matrix


@pytest.fixture
def study(results_root):
    record(RUNS)


def test_rates_by_run_are_those_of_its_predictions(study):
    found = study_tables.rates_by_run(FAMILY)
    assert len(found) == len(RUNS)
    for run, (fooled, right) in RUNS.items():
        row = found.loc[tuple(keys_of(run).values())]
        assert row.asr == fooled / 4 and row.robust_accuracy == 1 - fooled / 4
        assert row.clean_accuracy == pytest.approx((right + 1) / 5) and row.target_recall == 1
        assert row.known_accuracy == min(right, 2) / 2 and row.new_accuracy == max(right - 2, 0) / 2
        assert (row.cluster, row.f0_seed) == (f"{run[0]}-{run[1]}", run[0])


def test_a_defense_in_numbers(study):
    found = study_tables.table(FAMILY, 0.01, ["sig"], ["ubt", "par", "none"])
    assert found.index.tolist() == ["ubt", "par", "none"]
    assert found.runs.tolist() == found.clusters.tolist() == [3, 3, 3]
    assert found.asr.tolist() == pytest.approx([0, (0 + 2 + 1) / 12, 11 / 12])
    assert found.worst_asr.tolist() == [0, 0.5, 1] and found.failed.tolist() == [0, 2, 3]
    assert found.clean_accuracy.tolist() == pytest.approx([12 / 15, 8 / 15, 13 / 15])
    assert found.known_accuracy["ubt"] == 1 and found.new_accuracy["ubt"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.robust_accuracy["none"] == pytest.approx(1 / 12) and found.target_recall["par"] == 1
    assert found.seconds["ubt"] == pytest.approx(31 / 3) and np.isnan(found.seconds["none"])
    assert (found.asr_low["ubt"], found.asr_high["ubt"]) == (0, 0)
    assert found.asr_bound["ubt"] == pytest.approx(1 - 0.05 ** (1 / 4))  # four drawings of other classes
    hits = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    assert found.loc["par", ["asr", "asr_low", "asr_high"]].tolist() == list(
        statistics.cluster_bootstrap(hits)
    )


def test_runs_of_one_cluster_are_one_piece_of_evidence(study):
    found = study_tables.table(FAMILY, 0.01, ["sig", "wave"], ["par"]).loc["par"]
    assert (found.runs, found.clusters, found.failed, found.worst_asr) == (4, 3, 3, 1)
    hits = np.array([[0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0], [1, 0, 0, 0]])
    assert (found.asr, found.asr_low) == pytest.approx(statistics.cluster_bootstrap(hits)[:2])


def test_only_the_rates_that_are_asked_for_get_an_interval(study):
    found = study_tables.table(FAMILY, 0.01, ["sig"], ["par"], sure=("asr",)).loc["par"]
    assert found.asr_low < found.asr < found.asr_high and found.clean_accuracy == pytest.approx(8 / 15)
    assert "clean_accuracy_low" not in found


def test_one_cluster_has_a_mean_and_no_interval(study):
    found = study_tables.table(FAMILY, 0.01, ["wave"], ["par"]).loc["par"]
    assert found.asr == 1 and np.isnan(found.asr_low) and np.isnan(found.clean_accuracy_high)


def test_a_comparison_is_paired(study):
    found = study_tables.compared(FAMILY, "ubt", "par", "clean_accuracy", 0.05, ["sig"]).loc[0.01]
    assert (found.runs, found.clusters) == (3, 3)
    assert found.difference == pytest.approx((2 + 1 + 1) / 15)
    a, b = (np.array([[1] + [1] * n + [0] * (4 - n) for n in counts]) for counts in ((4, 3, 2), (2, 2, 1)))
    assert (found.low, found.high) == statistics.difference(a, b)[1:]
    assert (found.low90, found.high90) == statistics.difference(a, b, level=0.9)[1:]
    assert not found.equivalent and found.differs == (found.low > 0)
    wide = study_tables.compared(FAMILY, "ubt", "par", "clean_accuracy", 0.9, ["sig"])
    assert wide.equivalent.dtype == bool and wide.equivalent[0.01]
    other = study_tables.compared(FAMILY, "par", "ubt", "clean_accuracy", 0.05, ["sig"]).loc[0.01]
    assert other.difference == pytest.approx(-found.difference)


def test_rivals_are_paired_with_ubt_the_lowest_asr_first(study):
    record({(0, 0, "sig", "luck"): (0, 4), (0, 1, "wave", "anp"): (0, 4)})  # anp shares no run with UBT
    found = study_tables.rivals(FAMILY, 0.01, ["sig", "wave"], ["none", "par", "luck", "anp", "ubt"])
    assert found.index.tolist() == ["luck", "par", "none"]
    assert found.runs.tolist() == [1, 4, 3] and found.clusters.tolist() == [1, 3, 3]
    assert (found.asr["luck"], found.clean_accuracy["luck"]) == (0, 0)
    assert found.filter(regex="_").loc["luck"].isna().sum() == 4  # no interval of one cluster
    sig = study_tables.rivals(FAMILY, 0.01, ["sig"], ["par"]).loc["par"]
    for metric in ("asr", "clean_accuracy"):
        pair = study_tables.compared(FAMILY, "par", "ubt", metric, 0.05, ["sig"]).loc[0.01]
        named = sig[[metric, f"{metric}_low", f"{metric}_high"]]
        assert named.tolist() == pair[["difference", "low", "high"]].tolist()
    assert sig.asr == pytest.approx(3 / 12)
    with pytest.raises(ValueError, match="no run in results/toy has both ubt and one of anp"):
        study_tables.rivals(FAMILY, 0.01, ["wave"], ["anp"])


def test_the_best_rival_frees_most_clusters_and_then_reads_most_pictures_right(study):
    record({(0, 0, "sig", "luck"): (0, 4), (0, 1, "sig", "anp"): (0, 1), (1, 0, "sig", "anp"): (0, 0)})
    record({(0, 0, "sig", "anp"): (0, 1)})
    found = study_tables.standing(FAMILY, 0.01, ["sig"], ["par", "anp", "luck", "gone"])
    assert found.index.tolist() == ["anp", "par", "luck"]  # luck has one run of three
    assert found.failed.tolist() == [0, 2, 0] and found.clusters.tolist() == [3, 3, 1]
    assert found.whole.tolist() == [True, True, False] and found.runs.tolist() == [3, 3, 1]
    assert found.low["anp"] == 0 and found.high["anp"] == pytest.approx(1 - 0.025 ** (1 / 3))
    assert found.worst_asr["par"] == pytest.approx(2 / 4) and found.target_recall["par"] == 1
    record({(f0, seed, "sig", "tie"): (0, 4) for f0, seed in ((0, 0), (0, 1), (1, 0))})
    again = study_tables.standing(FAMILY, 0.01, ["sig"], ["anp", "tie"])
    assert again.index.tolist() == ["tie", "anp"] and again.clean_accuracy.is_monotonic_decreasing


def test_only_runs_that_both_have_are_compared(study):
    record({(1, 1, "sig", "ubt"): (4, 0)})
    found = study_tables.compared(FAMILY, "ubt", "par", "asr", 0.05).loc[0.01]
    assert (found.runs, found.clusters) == (4, 3)
    alone = study_tables.compared(FAMILY, "ubt", "par", "asr", 0.05, ["wave"]).loc[0.01]
    assert (alone.runs, alone.clusters, alone.difference) == (1, 1, -1)
    assert np.isnan(alone.low) and np.isnan(alone.high90) and not alone.differs and not alone.equivalent
    with pytest.raises(ValueError, match="no run in results/toy has both ubt and luck"):
        study_tables.compared(FAMILY, "ubt", "luck", "asr", 0.05)
    with pytest.raises(ValueError, match="unknown metric 'psnr'; known: clean_accuracy"):
        study_tables.compared(FAMILY, "ubt", "par", "psnr", 0.05)


def test_what_is_not_there_is_named(study, results_root):
    with pytest.raises(ValueError, match=r"no run of luck at poison rate 0\.01 in results/toy"):
        study_tables.table(FAMILY, 0.01, ["sig"], ["ubt", "luck"])
    with pytest.raises(ValueError, match=r"no run of ubt at poison rate 0\.5"):
        study_tables.table(FAMILY, 0.5, ["sig"], ["ubt"])
    records.predictions_path(FAMILY, "toy-f0", "wave").unlink()
    with pytest.raises(ValueError, match="no predictions of toy-f0, wave, par, 0 in results/toy"):
        study_tables.rates_by_run(FAMILY)
    old = pd.DataFrame([{**keys_of((0, 0, "sig", "ubt")), "f0": "x"}])
    records.write_table(records.table_path("old", records.MATRIX), old)
    with pytest.raises(ValueError, match="does not say f0_seed, poison_rate, cluster"):
        study_tables.rates_by_run("old")


def test_predictions_of_another_run_than_the_row_are_refused(study):
    run = (0, 0, "sig", "ubt")
    path = records.predictions_path(FAMILY, "toy-f0", "sig")
    records.merge(path, frame(1, 4).assign(**keys_of(run)), list(records.PREDICTED))
    with pytest.raises(evidence.MixedEvidence, match="of toy-f0, sig, ubt, 0: its predictions are not"):
        study_tables.table(FAMILY, 0.01, ["sig"], ["ubt"])


def test_ablations_of_the_same_cluster_must_be_told_apart(study):
    twin = pd.read_parquet(records.table_path(FAMILY, records.MATRIX)).assign(profile="toy-plain")
    records.merge(records.table_path(FAMILY, records.MATRIX), twin.query("f0_seed == 0"), list(records.KEYS))
    with pytest.raises(ValueError, match="several profiles have cluster 0-0: name those to count"):
        study_tables.table(FAMILY, 0.01, ["sig"], ["ubt"])
    found = study_tables.table(FAMILY, 0.01, ["sig"], ["ubt"], profiles=["toy-f0", "toy-f1"])
    assert found.runs["ubt"] == 3


# From the matrix alone


def test_of_the_wanted_defenses_only_the_recorded_are_known(results_root):
    write(cell(0, "sig", "ubt"), cell(0, "sig", "none"), cell(0, "none", "merge"))
    assert study_tables.known(FAMILY, 0.01, ["none", "merge", "luck", "ubt"]) == ["none", "ubt"]
    assert study_tables.known(FAMILY, 0.01, ["none", "ubt"], ["toy-f1"]) == []
    for attack, there in (("sig", ["none", "ubt"]), ("wave", [])):
        assert study_tables.known(FAMILY, 0.01, ["none", "ubt"], attacks=[attack]) == there
    assert set(study_tables.recorded(FAMILY, None, ["sig"], ["ubt"]).index) == {("toy-f0", "sig", "ubt", 0)}


def test_a_round_is_its_profiles_on_its_seeds(results_root):
    later = cell(0, "sig", "ubt") | {"seed": 8, "cluster": "0-8"}
    write(cell(0, "sig", "ubt"), later, cell(1, "sig", "ubt"))
    asked = Round(("toy-f0",), (8, 9))
    found = study_tables.recorded(FAMILY, None, ["sig"], ["ubt"], asked)
    assert set(found.index) == {("toy-f0", "sig", "ubt", 8)}


def test_rounds_share_no_seed_and_name_known_profiles():
    assert not {*FIFTH.seeds} & {*SIXTH.seeds}
    assert not {*FIFTH.seeds, *SIXTH.seeds} & {*study_tables.DEVELOPMENT}
    assert all(profiles.get(name).name == name for name in (*FIFTH.profiles, *SIXTH.profiles))


def test_what_there_is_to_lose_is_f0_and_the_twin(results_root):
    beside = {"public_asr": 0.0, "public_clean_accuracy": 0.3, "twin_clean_accuracy": 0.6}
    write(
        cell(0, "sig", "none", 0.9, **beside, twin_robust_accuracy=0.5),
        cell(1, "sig", "none", 0.9, **beside, twin_robust_accuracy=0.4), cell(0, "sig", "ubt", 0.0),
    )  # fmt: skip
    found = study_tables.untouched(FAMILY, 0.01, ["sig"])
    assert found.index.tolist() == ["f0, untouched", "clean twin"] and found.runs.tolist() == [2, 2]
    assert found.clean_accuracy.tolist() == [0.3, 0.6]
    assert found.robust_accuracy["clean twin"] == pytest.approx(0.45)
    assert found.asr["f0, untouched"] == 0 and np.isnan(found.asr["clean twin"])


def test_where_ubt_loses_comes_first(results_root):
    write(
        cell(0, "sig", "ubt", 0.0, 0.5), cell(0, "sig", "par", 0.2, 0.6), cell(0, "sig", "none", 1.0),
        cell(1, "sig", "ubt", 0.0, 0.5), cell(1, "sig", "par", 0.0, 0.48), cell(2, "sig", "par", 0.0, 0.9),
    )  # fmt: skip
    found = study_tables.losses(FAMILY, ["sig"])
    assert found.metric.tolist()[-1] == "asr" and set(found.defense) == {"par"}
    first = found.iloc[0]
    assert first.metric in ("clean_accuracy", "robust_accuracy") and first.behind == pytest.approx(0.04)
    assert (first.runs, first.clusters, first["runs behind"]) == (2, 2, 1)
    assert (first.ubt, first.other) == (0.5, pytest.approx(0.54))
    level = found.set_index("metric").loc["target_recall"]
    assert level.behind == 0 and level["runs behind"] == 0  # equal is not better
    assert found.set_index("metric").behind["asr"] == pytest.approx(-0.1)
    assert study_tables.losses(FAMILY, ["sig"], ["par"]).equals(found)


def test_ubt_alone_has_lost_to_nobody(results_root):
    write(cell(0, "sig", "ubt", 0.0, 0.5), cell(0, "sig", "none", 1.0))
    found = study_tables.losses(FAMILY, ["sig"])
    assert found.empty and {"poison_rate", "behind", "runs behind"} <= set(found)


def test_the_push_is_what_the_control_leaves_less_what_ubt_leaves(results_root):
    write(
        cell(0, "sig", "ubt-retain", 0.9), cell(0, "sig", "ubt", 0.1), cell(1, "sig", "ubt-retain", 0.2),
        cell(1, "sig", "ubt", 0.1), cell(0, "wave", "ubt", 0.0), cell(0, "none", "ubt"),
    )  # fmt: skip
    found = study_tables.push(FAMILY)
    assert found["push"].tolist() == pytest.approx([0.1, 0.8])  # the least first
    assert found.cluster.tolist() == ["1-0", "0-0"]
    write(cell(0, "sig", "ubt", 0.1))
    assert study_tables.push(FAMILY).empty


def test_the_ladder_compares_rungs_on_the_runs_that_all_of_them_have(results_root):
    write(
        cell(0, "sig", "ubt-pool", 0.9, 0.5), cell(1, "sig", "ubt-pool", 0.7, 0.4),
        cell(0, "wave", "ubt-pool", 0.5, 0.3), cell(0, "sig", "ubt-onelook", 0.1, 0.4, target_recall=0.2),
        cell(0, "wave", "ubt-onelook", 0.3, 0.2), cell(0, "sig", "ubt", 0.0, 0.45),
        cell(0, "wave", "ubt", 0.06, 0.35), cell(1, "sig", "ubt", 1.0),
    )  # fmt: skip
    found = study_tables.ladder(FAMILY, 0.01, ["sig", "wave"])
    assert found.index.tolist() == ["ubt-pool", "ubt-onelook", "ubt"] and found.runs.tolist() == [2, 2, 2]
    assert found.asr.tolist() == pytest.approx([0.7, 0.2, 0.03]) and found.failed.tolist() == [1, 1, 1]
    assert found["asr change"].tolist()[1:] == pytest.approx([-0.5, -0.17])
    assert found["CA change"].tolist()[1:] == pytest.approx([-0.1, 0.1])
    assert found["recall change"].tolist()[1:] == pytest.approx([-0.15, 0.15])
    assert found.what["ubt"] == "the whole method" and "wider exclusion" in found.what["ubt-onelook"]
    runs = study_tables.rungs(FAMILY, 0.01, ["sig", "wave"])
    assert len(runs) == 6 and set(runs.index.get_level_values("profile")) == {"toy-f0"}


PATHS = (
    cell(0, "sig", "ubt", 0.0, curve=way((0.1, 0.9, 0.5, 1.0), (0.2, 0.04, 0.3, 3.0), (0.3, 0.2, 0.4, 2.0),
                                          (0.4, 0.01, 0.45, 2.0))),
    cell(0, "sig", "par", 0.5, curve=way((0.0, 0.9, 0.5, 2.0), (0.4, 0.5, 0.4, 1.0))),
    cell(0, "sig", "merge", 0.03, 0.4, detection_seconds=0.0), cell(1, "sig", "ubt", 0.9),
)  # fmt: skip


def test_a_path_has_a_point_a_mark_and_one_where_nothing_was_trained(results_root):
    write(*PATHS, cell(0, "sig", "none", 1.0))
    found = study_tables.paths(FAMILY)
    assert found.groupby(["profile", "defense"]).size().to_dict() == {
        ("toy-f0", "merge"): 1, ("toy-f0", "par"): 2, ("toy-f0", "ubt"): 4, ("toy-f1", "ubt"): 1
    }  # fmt: skip
    merged, nothing = (found[(found.profile == f) & (found.defense == d)].iloc[0]
                       for f, d in (("toy-f0", "merge"), ("toy-f1", "ubt")))  # fmt: skip
    assert (merged.part, merged.asr, merged.clean_accuracy) == (0, 0.03, 0.4)
    assert np.isnan(nothing.part) and nothing.asr == 0.9 and set(found.cluster) == {"0-0", "1-0"}


def test_a_defense_holds_from_where_it_stays_below_the_bar(results_root):
    write(*PATHS)
    found = study_tables.first_holds(study_tables.paths(FAMILY))
    assert found.part.isna().tolist() == [True, True, False, False]  # those that never hold come first
    held = found.droplevel(["profile", "attack", "seed"]).part.dropna()
    assert held.to_dict() == {"ubt": 0.4, "merge": 0.0}  # not 0.2, after which it rose again
    at = found.loc["toy-f0", "sig", "ubt", 0]
    assert (at.step, at.seconds, at.clean_accuracy, at.cluster) == (3, 6, 0.45, "0-0")
    looser = study_tables.first_holds(study_tables.paths(FAMILY), bar=0.2)
    assert looser.loc["toy-f0", "sig", "ubt", 0].part == 0.2


def test_all_stop_by_the_same_rule(results_root):
    write(*PATHS)
    ways = study_tables.paths(FAMILY)
    found = study_tables.stopped(ways).xs("toy-f0").droplevel(["attack", "seed"])
    assert found.step.to_dict() == {"ubt": 0, "par": 1, "merge": 0}
    assert found["last"].to_dict() == {"ubt": False, "par": True, "merge": True}
    begun = study_tables.stopped(ways, after=1).xs("toy-f0").droplevel(["attack", "seed"])
    assert begun.step["ubt"] == 2 and begun.asr["ubt"] == 0.2  # the first of equal losses
    assert study_tables.stopped(ways).asr.is_monotonic_decreasing


@pytest.fixture
def toy_profiles(monkeypatch):
    """The made-up profiles, with the target of mini."""
    for f0 in (0, 1):
        monkeypatch.setitem(profiles.PROFILES, f"toy-f{f0}", profiles.get("mini"))


def asked(*said: tuple[str, float, int]) -> str:
    return json.dumps([{"word": word, "lost": lost, "after": after} for word, lost, after in said])


def detected(anchors: list[str], **more) -> dict:
    counts = {
        "pool_recall": 0.9,
        "chosen": 50,
        "chosen_poisoned": 40,
        "poisonous": 60,
        "poisonous_poisoned": 45,
    }
    return {"anchors": json.dumps(anchors), **counts, "poisoned": 53, **more}


def test_detection_has_the_worst_runs_first(results_root, toy_profiles):
    nothing = {"pool_recall": None, "chosen": 0, "chosen_poisoned": 0, "poisonous": 0}
    other = asked(("clock", 0.6, 0), ("six", 0.5, 0), ("face", 0.3, 1))  # six: of the same pairs, before
    write(
        cell(0, "sig", "ubt", 0.0, **detected(["clock"], asked=other)),
        cell(1, "sig", "ubt", 0.0, **detected(["clock", "face"])),
        cell(0, "wave", "ubt", 0.9, **detected(["face"], pool_recall=0.2)),
        cell(0, "none", "ubt", **detected([], **nothing)), cell(1, "none", "ubt", **detected(["face"])),
        cell(0, "sig", "none", 0.9),
    )  # fmt: skip
    found = study_tables.detection(FAMILY)
    assert found.right.tolist() == [False, False, True, True, True]
    assert found.words.tolist()[:2] == ["face", "face"] and found.others.tolist() == [1, 1, 1, 0, 0]
    sig = found.loc["toy-f0", "sig", 0]
    assert (sig.words, sig.lost, sig.honest) == ("clock", 0.6, 0.3)
    assert (sig["pool"], sig.precision, sig.flagged, sig.flagged_poisoned, sig.poisoned) == (
        0.9,
        0.8,
        60,
        45,
        53,
    )
    clean = found.loc["toy-f0", "none", 0]
    assert clean.right and clean.words == "" and np.isnan(clean.precision) and np.isnan(clean["pool"])


def test_a_word_of_any_name_of_the_target_is_right(results_root, toy_profiles):
    write(cell(0, "sig", "ubt", 0.0, **detected(["'", "timer"])))  # o'clock, timer clock
    found = study_tables.detection(FAMILY).iloc[0]
    assert found.right and found.others == 0 and found.words == "', timer"


def test_failures_on_unseen_seeds_are_told_apart(results_root, toy_profiles):
    write(
        cell(0, "sig", "ubt", 0.0, **detected(["clock"])), cell(1, "sig", "ubt", 0.9, **detected([])),
        cell(0, "sig", "ubt", 0.2, seed=4, cluster="0-4", **detected([])),
    )  # fmt: skip
    found = study_tables.seen(FAMILY, ["sig"]).droplevel("poison_rate")
    assert found.failed.to_dict() == {"development": 1, "unseen": 1}
    assert found.clusters.to_dict() == {"development": 2, "unseen": 1}
    assert found.worst_asr.to_dict() == {"development": 0.9, "unseen": 0.2}
    assert found.loc["unseen", ["low", "high"]].tolist() == [0.025, 1.0]  # 1 of 1: 0.05 / 2 = 0.025


def test_nothing_found_counts_clean_and_attacked_sets(results_root, toy_profiles):
    write(
        cell(0, "none", "ubt", **detected([])), cell(1, "none", "ubt", **detected([])),
        cell(0, "sig", "ubt", 0.0, **detected(["clock"])), cell(1, "sig", "ubt", 0.9, **detected([])),
        cell(1, "blended", "ubt", 0.9, **detected(["face"])),
        cell(1, "wave", "ubt", 0.9, **detected(["face"])),  # none of the study's attacks
    )  # fmt: skip
    found = study_tables.nothing_found(FAMILY)
    assert found.index.tolist() == ["clean, development", "1.0% poisoned, development"]
    assert found.sets.tolist() == [2, 3]
    assert (
        found.right.tolist() == [2, 1] and found.nothing.tolist() == [2, 1] and found.wrong.tolist() == [0, 1]
    )
    assert found.low.iloc[0] == pytest.approx(0.025**0.5) and found.high.iloc[0] == 1  # exact, 2 of 2
    assert found.share.tolist() == pytest.approx([1, 1 / 3])


def test_a_clean_set_of_seed_4_was_seen_and_an_attacked_one_was_not(results_root, toy_profiles):
    write(
        cell(0, "none", "ubt", seed=4, **detected([])), cell(0, "none", "ubt", seed=5, **detected([])),
        cell(0, "sig", "ubt", 0.0, seed=4, **detected(["clock"])),
    )  # fmt: skip
    found = study_tables.nothing_found(FAMILY)
    assert found.index.tolist() == ["clean, development", "clean, unseen", "1.0% poisoned, unseen"]


def test_where_detection_ends_is_told_run_by_run(results_root, toy_profiles):
    write(
        cell(0, "sig", "none", 0.9), cell(0, "sig", "ubt-retain", 0.8),
        cell(0, "sig", "ubt", 0.1, **detected(["clock"])),
        cell(0, "wave", "none", 0.7), cell(0, "wave", "ubt", 0.7, **detected([])),
        cell(1, "sig", "ubt", 0.0, **detected(["clock"])),
    )  # fmt: skip
    found = study_tables.edges(FAMILY, ["toy-f0"])
    assert found.index.tolist() == [("toy-f0", "wave", 0), ("toy-f0", "sig", 0)]  # the miss first
    assert found.noise.tolist() == [0.1, 0.1] and found.right.tolist() == [False, True]
    assert found.undefended.tolist() == [0.7, 0.9] and found["ubt"].tolist() == [0.7, 0.1]
    assert np.isnan(found["ubt-retain"].iloc[0]) and found["ubt-retain"].iloc[1] == 0.8
    assert study_tables.edges(FAMILY, ["toy-f0"], ["wave"]).index.tolist() == [("toy-f0", "wave", 0)]
    nothing = study_tables.edges(FAMILY, ["toy-f9"])  # not recorded
    assert nothing.empty and {"words", "noise", "undefended"} <= set(nothing)


def test_what_is_not_recorded_of_detection_is_not_made_up(results_root, toy_profiles):
    row = cell(0, "sig", "ubt", 0.0, **detected(["clock"]))
    write(
        {name: value for name, value in row.items() if not name.startswith("poison") or name == "poison_rate"}
    )
    found = study_tables.detection(FAMILY).iloc[0]
    assert found.right and np.isnan(found.flagged) and np.isnan(found.lost)


def test_the_cost_is_told_in_seconds_and_in_pairs(results_root):
    write(
        cell(0, "sig", "ubt", 0.0, victim_seconds=40.0, curve=way((0.1, 1, 1, 1), (0.3, 0, 1, 1))),
        cell(1, "sig", "ubt", 0.0, victim_seconds=40.0, seconds=20.0),
    )  # fmt: skip
    found = study_tables.cost(FAMILY)
    assert found.times.tolist() == [2, 4] and found.victim.tolist() == [40, 40]  # the dearest first
    assert found.detection.tolist() == [4, 4] and found.part.tolist()[1] == 0.3


def test_the_endpoints_are_those_that_were_written_down(study):
    path = records.table_path(FAMILY, records.MATRIX)
    table = pd.read_parquet(path)
    table["curve"] = np.where(table.defense == "ubt", way((0.1, 0.9, 0.5, 1), (0.2, 0.0, 0.5, 1)), "[]")
    table["twin_robust_accuracy"] = np.where(table.defense == "none", 0.9, np.nan)
    records.write_table(path, table)
    found = study_tables.endpoints(FAMILY, ["sig"])
    assert found.index.get_level_values("endpoint").tolist() == [
        "clusters that failed", "CA less that of undefended", "robust accuracy less the twin's",
        "largest part of the victim's cost",
    ]  # fmt: skip
    failed, ca, robust, part = (found.iloc[i] for i in range(4))
    assert (failed.value, failed.clusters, failed.runs, failed.met) == (0, 3, 3, True)
    assert ca.value == pytest.approx(-1 / 15) and not ca.met and ca.low < ca.value < ca.high
    assert robust.value == pytest.approx(0.1) and robust.met
    assert (part.value, part.met) == (0.2, True)


def test_an_endpoint_that_is_missed_says_so(study):
    record({(1, 1, "sig", "ubt"): (4, 0)})
    path = records.table_path(FAMILY, records.MATRIX)
    records.write_table(path, pd.read_parquet(path).assign(curve="[]", detection_seconds=4.0))
    found = study_tables.endpoints(FAMILY, ["sig"]).droplevel("poison_rate")
    assert (found.value["clusters that failed"], found.met["clusters that failed"]) == (1, False)
    assert not found.met["largest part of the victim's cost"]


# From the chain


def test_a_collected_cell_brings_its_predictions(chain, results_root, no_training):
    wanted = matrix.cells("tiny", ("badnets",), ("ubt", "finetune"), (0,))
    matrix.collect("tiny", matrix.run(wanted))
    path = records.predictions_path("tiny", "tiny", "badnets")
    assert path == results_root / "tiny" / "predictions" / "tiny-badnets.parquet"
    found, task = pd.read_parquet(path), chain.profile.sets.zero_shot()
    assert len(found) == 3 * len(task.labels) and not found.duplicated(list(records.PREDICTED)).any()
    rates = study_tables.rates_by_run("tiny").loc["tiny", "badnets"].droplevel("seed")
    for defense in ("ubt", "finetune"):
        assert rates.asr[defense] == pytest.approx(chain[f"evaluate {defense}"].metrics["asr"])
    assert set(rates.cluster) == {"0-0"} and set(rates.poison_rate) == {chain.profile.poison_rate}
    matrix.collect("tiny", matrix.run(wanted[1:2]))  # again, alone
    pd.testing.assert_frame_equal(pd.read_parquet(path), found)
    record = json.loads(wanted[0].path().read_text())
    assert (record["f0_seed"], record["poison_rate"], record["cluster"]) == (0, 0.1, "0-0")


def test_predictions_of_a_cell_that_is_known_to_have_no_numbers_go(chain, results_root, no_training):
    wanted = matrix.cells("tiny", ("badnets",), ("ubt",), (0,))
    matrix.collect("tiny", matrix.run(wanted))
    matrix.forget("tiny", [matrix.Outcome(wanted[1], "diverged", is_result=True)])
    found = pd.read_parquet(records.predictions_path("tiny", "tiny", "badnets"))
    assert set(found.defense) == {"none"} and len(found) == len(chain.profile.sets.zero_shot().labels)
