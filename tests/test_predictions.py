"""Predictions as a table: what they hold, every rate by hand, and that they give back what was recorded."""

import hashlib
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from ubt_utils import profiles
from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.data.zero_shot import ZeroShot
from ubt_utils.evaluate import measure, metrics, predictions
from ubt_utils.evaluate.predictions import MEASURES, frame_of, rates_of

# Six drawings, two paintings each; classes 0 (the target, two drawings), 1, 2, 3, 4; three ways.
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
UNITS = torch.arange(6).repeat_interleave(2)
KNOWN = torch.tensor([True, True, False, True, False])
TASK = ZeroShot(torch.zeros(12, 3, 2, 2), LABELS, UNITS, tuple("abcde"), (("x",),) * 5, 0, ways=3)


def stands(own: list[int], target: list[int], first: list[int]) -> metrics.Standing:
    return metrics.Standing(torch.tensor(own), torch.tensor(target), torch.tensor(first, dtype=torch.bool))


CLEAN = stands(
    [0, 1, 0, 4, 0, 0, 1, 2, 0, 3, 0, 1],
    [0, 1, 0, 4, 3, 0, 1, 2, 3, 3, 0, 3],
    [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
)
STAMPED = stands(
    [0, 0, 0, 0, 3, 3, 0, 1, 3, 2, 3, 0],
    [0, 0, 0, 0, 0, 0, 3, 3, 1, 2, 3, 3],
    [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0],
)
# One other of three is drawn: none, one, two or three above leave 1, 2/3, 1/3, 0. Of the target it is two of
# four: 1, 1/2, 1/6, 0, 0.
RIGHT = {0: (1 + 1 / 2 + 1 + 0) / 4, 1: 1 / 2, 2: (2 / 3 + 1 / 3) / 2, 3: 1 / 2, 4: (0 + 2 / 3) / 2}
FOOLED = [1, 1, 0, 0, 2 / 3, 1 / 3, 0, 0]  # the eight pictures of classes 1 to 4
ROBUST = [0, 0, 1, 2 / 3, 0, 0, 0, 1]
EXPECTED = {
    "clean_accuracy": sum(RIGHT.values()) / 5,
    "known_accuracy": (RIGHT[1] + RIGHT[3]) / 2,
    "new_accuracy": (RIGHT[2] + RIGHT[4]) / 2,
    "target_recall": RIGHT[0],
    "false_target_rate": (1 + 1) / 8,
    "robust_accuracy": sum(ROBUST) / 8,
    "asr": sum(FOOLED) / 8,
    "asr_include_target": (sum(FOOLED) + 4) / 12,
    "asr_divide_by_all": sum(FOOLED) / 12,
    "asr_without_word": (1 + 1) / 8,
}


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of(TASK, {"clean": CLEAN, "stamped": STAMPED, "wordless": CLEAN}, KNOWN)


def test_every_rate_by_hand(frame):
    rates = rates_of(frame)
    assert set(rates) == set(EXPECTED) == set(MEASURES)
    assert {name: r.value for name, r in rates.items()} == pytest.approx(EXPECTED)
    shape = {name: (r.n, r.units) for name, r in rates.items()}
    assert shape["clean_accuracy"] == shape["asr_include_target"] == shape["asr_divide_by_all"] == (12, 6)
    assert shape["asr"] == shape["robust_accuracy"] == shape["false_target_rate"] == (8, 4)
    assert shape["target_recall"] == shape["known_accuracy"] == (4, 2)


def test_a_perfect_attack_reaches_one_only_where_the_convention_allows():
    always = stands([0] * 4 + [1] * 8, [0] * 12, [0] * 4 + [1] * 8)
    rates = rates_of(frame_of(TASK, {"stamped": always}))
    assert [rates[f"asr{c}"].value for c in ("", "_include_target", "_divide_by_all")] == pytest.approx(
        [1, 1, 8 / 12]
    )
    assert rates["robust_accuracy"].value == 0


def test_what_was_not_looked_at_has_no_rate(frame):
    clean = rates_of(frame_of(TASK, {"clean": CLEAN}))
    assert set(clean) == {"clean_accuracy", "target_recall", "false_target_rate"}
    all_known = rates_of(frame_of(TASK, {"clean": CLEAN}, torch.ones(5, dtype=torch.bool)))
    assert set(all_known) == {*clean, "known_accuracy"}
    others = frame[frame.label != frame.target]
    with pytest.raises(ValueError, match="over no pictures"):
        rates_of(others)


def test_a_frame_is_a_row_a_picture_in_small_integers(frame):
    assert list(frame) == [
        "picture", "unit", "label", "known", "classes", "ways", "target",
        *(f"{s}_{p}" for s in ("clean", "stamped", "wordless") for p in predictions.PARTS),
    ]  # fmt: skip
    assert frame.picture.tolist() == list(range(12)) and frame.label.tolist() == LABELS.tolist()
    assert frame.known.tolist() == KNOWN[LABELS].tolist()
    assert set(map(str, frame.dtypes)) == {"int32", "int16", "bool"}


def test_predictions_survive_a_file_and_their_order(frame, tmp_path):
    path = records.write_table(tmp_path / "p.parquet", frame.sample(frac=1, random_state=0))
    again = rates_of(pd.read_parquet(path).sort_values("picture", ignore_index=True))
    assert again == rates_of(frame)


def test_rows_of_several_questions_are_refused(frame):
    with pytest.raises(ValueError, match="one question are needed, got those of 2"):
        rates_of(pd.concat([frame, frame.assign(ways=4)]))


# A model


@pytest.fixture(scope="module")
def made():
    """A model that has learned nothing, on the tiny profile: its predictions and its numbers, stamped."""
    profile = profiles.get("tiny")
    model = models.create(profile.model, 0)
    return profile, model, measure.measured(model, profile, profile.trigger("badnets"))


def test_predictions_of_a_model_give_back_its_rates(made, tmp_path):
    profile, model, found = made
    path = records.write_table(tmp_path / "p.parquet", found.predictions)
    rates = {name: asdict(r) for name, r in rates_of(pd.read_parquet(path)).items()}
    flat = found.flat()
    assert rates == flat.pop("rates") and flat == {name: r["value"] for name, r in rates.items()}
    assert set(rates) == set(MEASURES) - {"asr_without_word"}
    assert measure.predictions(model, profile, profile.trigger("badnets")).equals(found.predictions)


def test_one_pass_over_the_pictures_of_each_kind_and_one_head(made, monkeypatch):
    profile, model, _ = made
    passes, heads = [], []
    embed, head = models.embed_images, models.zero_shot_head
    monkeypatch.setattr(models, "embed_images", lambda m, i, **k: passes.append(len(i)) or embed(m, i, **k))
    monkeypatch.setattr(models, "zero_shot_head", lambda *a: heads.append(1) or head(*a))
    measure.full(model, profile, profile.trigger("badnets"))
    assert passes == 2 * [len(profile.sets.zero_shot().labels)] and heads == [1]


def test_by_argmax_where_every_class_is_offered(made):
    profile, model, _ = made
    classes = len(profile.sets.class_names())
    asked = replace(profile, sets=replace(profile.sets, ways=classes))
    found, task = measure.full(model, asked, asked.trigger("badnets")), asked.sets.zero_shot()
    predicted = measure.predict(model, measure.head_of(model, asked), task.images)
    hits = (predicted == task.labels).double()
    per_class = [hits[task.labels == c].mean() for c in range(classes)]
    assert found["clean_accuracy"] == pytest.approx(np.mean(per_class))
    real = task.labels == task.target
    assert found["target_recall"] == pytest.approx(hits[real].mean().item())
    assert found["false_target_rate"] == pytest.approx(
        (predicted[~real] == task.target).double().mean().item()
    )
    success = measure.success(model, asked, asked.trigger("badnets"), measure.head_of(model, asked))
    assert success["asr"].value == found["asr"]


def test_validation_is_measured_on_its_own_pictures(made):
    profile, model, found = made
    aside = measure.measured(model, profile, None, split=measure.VALIDATION)
    names = sum(map(len, profile.sets.class_names().values()))
    assert len(aside.predictions) == names == len(found.predictions) / 2
    assert aside.rates["clean_accuracy"] != found.rates["clean_accuracy"]
    with pytest.raises(ValueError, match="unknown split 'train'; known: test, validation"):
        measure.task_of(profile.sets, "train")


def test_no_picture_is_in_two_of_d_test_and_validation(tiny):
    sets = tiny.sets
    parts = [sets.wild_pairs(0)[0].images, sets.public_pairs(0).images, sets.zero_shot().images]
    parts += [sets.validation().images, sets.goals(0)]
    bytes_of = [{hashlib.sha256(i.numpy().tobytes()).digest() for i in images} for images in parts]
    assert sum(map(len, bytes_of)) == len(set.union(*bytes_of)) > 0
