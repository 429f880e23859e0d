"""The recorded comparison of detectors."""

import pandas as pd
import pytest

from ubt_utils import profiles
from ubt_utils.baselines import detectors
from ubt_utils.report import tables
from ubt_utils.study import detection


def test_a_poisoned_set_gives_a_row_per_detector(chain):
    rows = detection.scored(detection.Set("tiny", "badnets", 0))
    assert {row["detector"] for row in rows} == {*detectors.DETECTORS, "ubt"}
    assert all(row["noise"] == chain.profile.sets.noise for row in rows)
    ubt = next(row for row in rows if row["detector"] == "ubt")
    assert ubt["auroc"] == chain["select"].metrics["auroc"] and ubt["seconds"] is None


def test_sets_cover_every_noise_attack_and_seed():
    found = detection.sets(detection.NOISES, ("badnets", "sig"), (0, 1))
    assert len(found) == 12 == len(set(found))
    assert [profiles.get(n).sets.noise for n in detection.NOISES] == [0, 0.1, 0.3]


def test_detectors_stand_best_first_with_a_column_per_noise():
    rows = [("a", 0.1, 0.2), ("a", 0.1, 0.4), ("b", 0.1, 0.9), ("a", 0.0, 0.5), ("b", 0.0, 0.7)]
    table = pd.DataFrame(rows, columns=["detector", "noise", "average_precision"])
    table = table.assign(attack="sig", seed=0)
    other = pd.DataFrame(
        [{"detector": "a", "noise": 0.1, "average_precision": 0.0, "attack": "sig", "seed": 3}]
    )
    table = pd.concat([table, other], ignore_index=True)  # a run that only one rate of noise has
    table["fpr_at_95_tpr"] = table.average_precision
    found = detection.by_noise(table)
    assert list(found.index) == ["b", "a"] and found.loc["a", 0.1] == pytest.approx(0.3)
    assert list(detection.by_noise(table, "fpr_at_95_tpr").index) == ["a", "b"]


def test_without_records_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="run `python -m ubt_utils detectors`"):
        detection.read("mini")
