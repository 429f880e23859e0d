"""The tables of the study, counted by hand on a made-up family of two public models and two seeds."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from ubt_utils.core import records
from ubt_utils.data.zero_shot import ZeroShot
from ubt_utils.evaluate import statistics
from ubt_utils.evaluate.metrics import Standing
from ubt_utils.evaluate.predictions import frame_of, rates_of
from ubt_utils.report import evidence, study_tables
from ubt_utils.study import matrix

FAMILY = "toy"
# Classes 0 (the target) to 4, a drawing each, all offered: an answer is right or wrong.
TASK = ZeroShot(torch.zeros(5, 3, 2, 2), torch.arange(5), torch.arange(5), tuple("abcde"), (("x",),) * 5, 0)
KNOWN = torch.tensor([True, True, True, False, False])
RUNS = {  # (public model, seed, attack, defense): pictures of classes 1 to 4 that are fooled, and read right
    (0, 0, "sig", "none"): (4, 4), (0, 0, "sig", "ubt"): (0, 4), (0, 0, "sig", "par"): (0, 2),
    (0, 1, "sig", "none"): (3, 4), (0, 1, "sig", "ubt"): (0, 3), (0, 1, "sig", "par"): (2, 2),
    (1, 0, "sig", "none"): (4, 2), (1, 0, "sig", "ubt"): (0, 2), (1, 0, "sig", "par"): (1, 1),
    (0, 0, "wave", "ubt"): (0, 4), (0, 0, "wave", "par"): (4, 4),
}  # fmt: skip


def frame(fooled: int, right: int) -> pd.DataFrame:
    """Of classes 1 to 4, the first ones are so; the target is always read right."""
    first, wrong = torch.arange(5), torch.arange(5) > right
    hit = (first > 0) & (first <= fooled)
    nothing = torch.zeros(5, dtype=torch.long)
    clean = Standing(wrong.long(), nothing + 1, torch.zeros(5, dtype=torch.bool))
    return frame_of(TASK, {"clean": clean, "stamped": Standing(nothing, nothing, hit)}, KNOWN)


def keys_of(run: tuple) -> dict:
    f0, seed, attack, defense = run
    return {"profile": f"toy-f{f0}", "attack": attack, "defense": defense, "seed": seed}


def row_of(run: tuple, found: pd.DataFrame) -> dict:
    f0, seed, _, defense = run
    design = {"f0_seed": f0, "poison_rate": 0.01, "cluster": f"{f0}-{seed}", "f0": f"public {f0}"}
    rates = {name: r.value for name, r in rates_of(found).items()}
    return keys_of(run) | design | rates | {"seconds": {"ubt": 10.0 + seed, "par": 4.0}.get(defense)}


def record(runs: dict) -> None:
    """Write the matrix and the predictions."""
    rows = []
    for run, counts in runs.items():
        found = frame(*counts)
        rows.append(row_of(run, found))
        path = records.predictions_path(FAMILY, f"toy-f{run[0]}", run[2])
        records.merge(path, found.assign(**keys_of(run)), list(records.PREDICTED))
    records.merge(records.table_path(FAMILY, records.MATRIX), pd.DataFrame(rows), list(records.KEYS))


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


def test_only_runs_that_both_have_are_compared(study):
    record({(1, 1, "sig", "ubt"): (4, 0)})
    found = study_tables.compared(FAMILY, "ubt", "par", "asr", 0.05).loc[0.01]
    assert (found.runs, found.clusters) == (4, 3)
    with pytest.raises(ValueError, match="two clusters must have both ubt and par, 1 has"):
        study_tables.compared(FAMILY, "ubt", "par", "asr", 0.05, ["wave"])
    with pytest.raises(ValueError, match="both ubt and luck, 0 has"):
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
