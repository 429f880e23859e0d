"""What is measured about a model, against SciPy and NumPy on its own cosines."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.clip import models
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import records
from ubt_utils.evaluate import measure
from ubt_utils.evaluate.predictions import rates_of

CLEAN_RATES = ("clean_accuracy", "known_accuracy", "new_accuracy", "target_recall", "false_target_rate")
RATES = (*CLEAN_RATES, "asr", "asr_include_target", "asr_divide_by_all", "robust_accuracy")
CLOSE = {"abs": 2e-3}  # in double precision a pair of classes may change places


def cosines(model, profile, images: torch.Tensor) -> np.ndarray:
    """Class by class: with the prompts' mean direction, in float64."""
    heads = []
    for prompts in profile.sets.zero_shot().prompts():
        z = models.embed_tokens(model, models.tokenize(profile.model, prompts)).double().numpy().mean(0)
        heads.append(z / np.linalg.norm(z))
    return models.embed_images(model, images).double().numpy() @ np.stack(heads).T


def chances(found: np.ndarray, task) -> tuple[np.ndarray, np.ndarray]:
    """(N,) each: how often a picture is read as what it is, and as the target; one picture at a time."""
    right, fooled = [], []
    for row, label in zip(found, task.labels.tolist(), strict=True):
        always = {label, task.target}
        others = [c for c in range(len(row)) if c not in always]
        won = {
            c: stats.hypergeom.pmf(
                0, len(others), sum(row[o] > row[c] for o in others), task.ways - len(always)
            )
            for c in always
        }
        first = max(always, key=lambda c: row[c])
        right.append(won[label] * (first == label))
        fooled.append(won[task.target] * (first == task.target))
    return np.array(right), np.array(fooled)


@pytest.fixture
def task(chain):
    return chain.profile.sets.zero_shot()


@pytest.mark.parametrize("name", ["evaluate", "evaluate ubt", "evaluate finetune", "twin"])
def test_rates_are_fractions_inside_their_intervals(chain, name):
    metrics = chain[name].metrics
    assert set(metrics["rates"]) == set(RATES if name != "twin" else CLEAN_RATES)
    for rate, r in metrics["rates"].items():
        assert r["value"] == metrics[rate] and 0 <= r["value"] <= 1
        assert -1e-9 <= r["low"] <= r["value"] + 1e-9 and r["value"] - 1e-9 <= r["high"] <= 1 + 1e-9
        assert r["low"] < r["high"] and 0 < r["units"] < r["n"] and r["se"] >= 0  # paintings share drawings


def test_the_evaluation_of_the_backdoored_model_by_independent_means(chain, task):
    model, metrics, profile = chain.run.model(chain["attack"]), chain["evaluate"].metrics, chain.profile
    labels, classes = task.labels.numpy(), np.arange(len(task.classes))
    right, misread = chances(cosines(model, profile, task.images), task)
    stamped = stamp_bytes(profile.trigger("badnets"), task.images)
    robust, fooled = chances(cosines(model, profile, stamped), task)
    real, known = labels == task.target, profile.sets.known_classes(0).numpy()
    per_class = np.array([right[labels == c].mean() for c in classes])
    assert metrics["clean_accuracy"] == pytest.approx(per_class.mean(), **CLOSE)
    others = classes != task.target
    assert metrics["known_accuracy"] == pytest.approx(per_class[known & others].mean(), **CLOSE)
    assert metrics["new_accuracy"] == pytest.approx(per_class[~known & others].mean(), **CLOSE)
    assert metrics["target_recall"] == pytest.approx(right[real].mean(), **CLOSE)
    assert metrics["false_target_rate"] == pytest.approx(misread[~real].mean(), **CLOSE)
    assert metrics["robust_accuracy"] == pytest.approx(robust[~real].mean(), **CLOSE)
    assert metrics["asr"] == pytest.approx(fooled[~real].mean(), **CLOSE)
    assert metrics["asr_include_target"] == pytest.approx(fooled.mean(), **CLOSE)
    assert metrics["asr_divide_by_all"] == pytest.approx(fooled[~real].sum() / len(fooled), **CLOSE)


def test_each_evaluation_is_of_its_own_model(chain, task):
    made = {"evaluate ubt": "ubt", "evaluate finetune": "finetune", "evaluate": "pretrain"}
    for stage, name in made.items():
        right, _ = chances(cosines(chain.run.model(chain[name]), chain.profile, task.images), task)
        per_class = [right[task.labels.numpy() == c].mean() for c in range(len(task.classes))]
        metric = "clean_accuracy" if name != "pretrain" else "public_clean_accuracy"
        assert chain[stage].metrics[metric] == pytest.approx(np.mean(per_class), **CLOSE)


@pytest.mark.parametrize("name", ["evaluate", "evaluate ubt", "twin"])
def test_the_predictions_that_a_stage_keeps_give_back_its_rates(chain, name):
    frame = pd.read_parquet(chain[name].path(records.PREDICTIONS))
    rates = {rate: r.value for rate, r in rates_of(frame).items()}
    assert rates == {rate: chain[name].metrics[rate] for rate in rates} and set(rates) >= set(CLEAN_RATES)


def test_the_public_model_has_predictions_of_its_own(chain):
    frame = pd.read_parquet(chain["evaluate"].path("public_predictions.parquet"))
    for name, rate in rates_of(frame).items():
        assert chain["evaluate"].metrics[f"public_{name}"] == rate.value
    assert "public_predictions.parquet" not in chain["evaluate ubt"].contents


def test_a_model_that_gives_no_numbers_has_diverged(tiny):
    model = models.create(tiny.model, 0)
    next(model.visual.parameters()).data.fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="not numbers"):
        measure.clean(model, tiny)


def test_ubts_evaluation_carries_its_detection(chain):
    for name in ("auroc", "average_precision", "precision_at_64"):
        assert chain["evaluate ubt"].metrics[name] == chain["select"].metrics[name]
        assert name not in chain["evaluate finetune"].metrics
    assert chain["evaluate finetune"].metrics["seconds"] == chain["finetune"].metrics["seconds"]


def test_without_a_trigger_only_clean_rates_are_measured(chain):
    model = chain.run.model(chain["attack"])
    clean = measure.full(model, chain.profile, None)
    assert clean == measure.clean(model, chain.profile)
    assert set(clean["rates"]) == set(CLEAN_RATES)


def test_answers_are_the_most_probable_classes_in_order(chain, task):
    model = chain.run.model(chain["attack"])
    head = measure.head_of(model, chain.profile)
    answers = measure.answers(model, head, task.images[0], task.classes, top=len(task.classes))
    cosines = (models.embed_images(model, task.images[:1]) @ head.T)[0].double().numpy()
    odds = np.exp(model.logit_scale.exp().item() * cosines)
    expected = dict(zip(task.classes, odds / odds.sum(), strict=True))
    assert answers == pytest.approx(expected, rel=1e-4)
    assert list(answers.values()) == sorted(answers.values(), reverse=True)
    best = measure.answers(model, head, task.images[0], task.classes, top=3)
    assert list(best) == list(answers)[:3]
