"""One profile, one origin: every reader refuses rows of different contents under one name."""

import json

import pandas as pd
import pytest

from ubt_utils.core import records
from ubt_utils.report import (
    attack_tables,
    cells,
    defense_tables,
    detector_tables,
    evidence,
    photo_tables,
    readme,
    study_tables,
    tables,
)

STAGES = {"pretrain": "pretrain-1", "attack": "attack-2"}


def row(f0: str = "one", **fields) -> dict:
    return {"profile": "mini", "attack": "sig", "defense": "none", "seed": 0, "asr": 0.5, "f0": f0, **fields}


def traced(attack: str, stages=STAGES) -> dict:
    """A row whose stage `attack` has this content."""
    contents = {"pretrain": {"model.safetensors": "f0"}, "attack": {"model.safetensors": attack}}
    return row(stages=json.dumps(stages), contents=json.dumps(contents))


def record(profile: str, seed: int, f0: str = "one", attack: str = "two") -> dict:
    contents = {"pretrain": {"model.safetensors": f0}, "attack": {"model.safetensors": attack}}
    known = {"profile": profile, "attack": "sig", "defense": "none", "seed": seed}
    return known | {"metrics": {"asr": 0.5}, "stages": STAGES, "contents": contents, "train_seconds": {}}


def test_rows_of_one_model_pass_as_they_are():
    table = pd.DataFrame([row(), row(seed=1)])
    assert evidence.of_one_model(table) is table
    assert evidence.of_one_model(table.iloc[:0]).empty


def test_two_public_models_are_refused_with_their_counts():
    table = pd.DataFrame([row(), row(seed=1), row("other")])
    with pytest.raises(evidence.MixedEvidence, match=r"profile mini: .* 2 from one, 1 from other"):
        evidence.of_one_model(table)
    with pytest.raises(evidence.MixedEvidence, match=r"^the rows of one profile .* 2 from one, 1 from other"):
        evidence.of_one_model(table.drop(columns="profile"))


def test_which_public_model_it_is_is_a_factor_and_each_has_a_profile_of_its_own():
    table = pd.DataFrame([row(), row("other", profile="mini-f1"), row(seed=1)])
    assert evidence.of_one_model(table) is table
    more = pd.concat([table, pd.DataFrame([row("third", profile="mini-f1")])])
    with pytest.raises(evidence.MixedEvidence, match=r"profile mini-f1: .* 1 from other, 1 from third"):
        evidence.of_one_model(more)


def test_a_row_that_does_not_say_goes_with_no_other():
    with pytest.raises(evidence.MixedEvidence, match="different public models"):
        evidence.of_one_model(pd.DataFrame([row(), row(None)]))


def test_one_stage_folder_stands_for_one_content():
    same = pd.DataFrame([traced("a"), traced("a")])
    assert evidence.of_one_model(same) is same
    with pytest.raises(evidence.MixedEvidence, match="attack-2 stands for different contents"):
        evidence.of_one_model(pd.DataFrame([traced("a"), traced("b")]))


def test_another_folder_may_hold_another_content_and_old_rows_say_nothing():
    other = traced("b", {**STAGES, "attack": "attack-3"})
    evidence.of_one_model(pd.DataFrame([traced("a"), other, row(stages=None, contents=None)]))
    evidence.of_one_model(pd.DataFrame([row(stages=json.dumps(STAGES)), row()]))


def test_one_folder_is_one_content_whatever_the_stage_is_to_the_run():
    other = json.dumps({"twin": "attack-2"})
    twin = row(stages=other, contents=json.dumps({"twin": {"model.safetensors": "b"}}))
    with pytest.raises(evidence.MixedEvidence, match="attack-2"):
        evidence.of_one_model(pd.DataFrame([traced("a"), twin]))


@pytest.fixture
def mixed(results_root) -> None:
    """Records, a matrix, detectors and a sweep, each with rows of two public models."""
    for seed, f0 in enumerate(("one", "other")):
        records.write(record("mini", seed, f0))
    study = results_root / cells.STUDY
    for family in (cells.STUDY, "mini", "photos"):
        both = pd.DataFrame([row(), row("other", seed=1)])
        records.write_table(records.table_path(family, records.MATRIX), both)
    found = [row(detector="gain", noise=0.1), row("other", seed=1, detector="gain", noise=0.1)]
    for family in (cells.STUDY, detector_tables.NOISE_STUDY):
        records.write_table(records.table_path(family, records.DETECTORS), pd.DataFrame(found))
    for name in (records.SWEEP, records.TUNING):
        records.write_table(study / name, pd.DataFrame(found))


READERS = {
    "cells": lambda: cells.read(cells.STUDY),
    "rows": lambda: cells.rows("mini"),
    "tidy rows": lambda: tables.rows("mini"),
    "headline": lambda: tables.headline("mini"),
    "changes": lambda: tables.changes("mini"),
    "against": lambda: tables.against("mini", "ubt", "none"),
    "text": lambda: tables.as_text("mini"),
    "standing": defense_tables.standing_cells,
    "runs of the study": lambda: study_tables.recorded("mini"),
    "suite": defense_tables.suite,
    "ablations": defense_tables.ablations,
    "carried on": defense_tables.carried_on,
    "attackers": defense_tables.attackers,
    "trials": defense_tables.trials,
    "attacks": attack_tables.attacks,
    "robust": attack_tables.robust,
    "sweep": attack_tables.sweep,
    "noises": lambda: detector_tables.by_noise(detector_tables.read()),
    "took": lambda: photo_tables.took("photos", ["sig"]),
    "rulers": lambda: photo_tables.rulers("photos", 0.01, ["sig"], ["ubt"]),
    "endpoints on photos": lambda: photo_tables.endpoints("photos", ["sig"]),
    "README": readme.sections,
    "picture of the README": readme.drawn,
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_a_mixed_table(mixed, name):
    with pytest.raises(evidence.MixedEvidence, match="1 from one, 1 from other"):
        READERS[name]()


def test_records_with_one_name_for_two_contents_are_refused(results_root):
    for seed, attack in enumerate(("a", "b")):
        records.write(record("mini", seed, attack=attack))
    with pytest.raises(evidence.MixedEvidence, match="attack-2 stands for different contents"):
        tables.headline("mini")


def test_records_and_matrix_of_one_profile_must_go_together(results_root):
    records.write(record("mini", 0))
    path = results_root / "mini" / records.MATRIX
    records.write_table(path, pd.DataFrame([row(seed=1)]))
    assert len(cells.rows("mini")) == 2
    records.write_table(path, pd.DataFrame([row("other", seed=1)]))
    with pytest.raises(evidence.MixedEvidence, match="1 from one, 1 from other"):
        cells.rows("mini")


def test_lists_and_models_of_different_origin_are_not_set_side_by_side(results_root):
    study = results_root / cells.STUDY
    fed = [row(seed=s, defense=d, clean_accuracy=0.5) for s in (0, 1) for d in ("ubt", "ubt-from-gain")]
    records.write_table(study / records.MATRIX, pd.DataFrame(fed))
    lists = [
        row("other", seed=s, detector=d, noise=0.1, precision_at_64=1.0)
        for s in (0, 1)
        for d in ("ubt", "gain")
    ]
    records.write_table(study / records.DETECTORS, pd.DataFrame(lists).drop(columns="asr"))
    with pytest.raises(evidence.MixedEvidence, match="4 from one, 4 from other"):
        defense_tables.carried_on()
