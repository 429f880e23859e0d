"""The recorded comparison of detectors."""

import pandas as pd
import pytest

from ubt_utils import profiles
from ubt_utils.baselines import detectors
from ubt_utils.core import records
from ubt_utils.report import detector_tables, evidence
from ubt_utils.study import detection


def test_a_poisoned_set_gives_a_row_per_detector(chain):
    rows = detection.scored(detection.Set("tiny", "badnets", 0))
    assert {row["detector"] for row in rows} == {*detectors.DETECTORS, "ubt"}
    assert all(row["noise"] == chain.profile.sets.noise for row in rows)
    ubt = next(row for row in rows if row["detector"] == "ubt")
    assert ubt["auroc"] == chain["select"].metrics["auroc"] and ubt["seconds"] is None
    assert {row["f0"] for row in rows} == {chain["pretrain"].contents["model.safetensors"]}


def test_sets_cover_every_noise_attack_and_seed():
    found = detection.sets(detection.NOISES, ("badnets", "sig"), (0, 1))
    assert len(found) == 12 == len(set(found))
    assert [profiles.get(n).sets.noise for n in detection.NOISES] == [0, 0.1, 0.3]


def test_detectors_stand_best_first_with_a_column_per_noise():
    rows = [("a", 0.1, 0.2), ("a", 0.1, 0.4), ("b", 0.1, 0.9), ("a", 0.0, 0.5), ("b", 0.0, 0.7)]
    table = pd.DataFrame(rows, columns=["detector", "noise", "average_precision"])
    table = table.assign(attack="sig", seed=0, f0="one")
    other = pd.DataFrame(
        [{"detector": "a", "noise": 0.1, "average_precision": 0.0, "attack": "sig", "seed": 3, "f0": "other"}]
    )
    # a run that only one rate of noise has, of another model: it is left out
    table = pd.concat([table, other], ignore_index=True)
    table["fpr_at_95_tpr"] = table.average_precision
    found = detector_tables.by_noise(table)
    assert list(found.index) == ["b", "a"] and found.loc["a", 0.1] == pytest.approx(0.3)
    assert list(detector_tables.by_noise(table, "fpr_at_95_tpr").index) == ["a", "b"]


def test_noises_of_two_models_are_not_compared():
    rows = [("a", noise, 0.5, "sig", 0, f0) for noise, f0 in ((0.0, "one"), (0.1, "other"))]
    columns = ["detector", "noise", "average_precision", "attack", "seed", "f0"]
    with pytest.raises(evidence.MixedEvidence, match="1 from one, 1 from other"):
        detector_tables.by_noise(pd.DataFrame(rows, columns=columns))


def test_what_is_recorded_is_read_back(chain, results_root):
    path = detection.record("tiny", [detection.Set("tiny", "badnets", 0)], workers=1)
    assert path == records.table_path("tiny", records.DETECTORS)
    found = detector_tables.read("tiny")
    assert set(found.detector) == {*detectors.DETECTORS, "ubt"} and not found.duplicated(detection.KEYS).any()


def test_without_records_the_command_is_named(results_root):
    with pytest.raises(FileNotFoundError, match="run `python -m ubt_utils detectors`"):
        detector_tables.read()
