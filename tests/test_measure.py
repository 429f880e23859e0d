"""What is measured about a model, against scikit-learn and NumPy on its own predictions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.clip import models
from ubt_utils.evaluate import measure

CLEAN_RATES = ("clean_accuracy", "target_recall", "false_target_rate")
RATES = (*CLEAN_RATES, "asr", "asr_include_target", "asr_divide_by_all")


def classified(model, profile, images: torch.Tensor) -> np.ndarray:
    """Class by class: the one whose prompts' mean direction is nearest, in float64."""
    task = profile.sets.zero_shot()
    heads = []
    for prompts in task.prompts():
        z = models.embed_tokens(model, models.tokenize(profile.model, prompts)).double().numpy().mean(0)
        heads.append(z / np.linalg.norm(z))
    return (models.embed_images(model, images).double().numpy() @ np.stack(heads).T).argmax(1)


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
        assert r["low"] < r["high"] and 0 < r["units"] < r["n"]  # paintings share drawings


def test_the_evaluation_of_the_backdoored_model_by_independent_means(chain, task):
    model, metrics = chain.run.model(chain["attack"]), chain["evaluate"].metrics
    labels = task.labels.numpy()
    clean = classified(model, chain.profile, task.images)
    stamped = stamp_bytes(chain.profile.trigger("badnets"), task.images)
    fooled = classified(model, chain.profile, stamped) == task.target
    real = labels == task.target
    assert metrics["clean_accuracy"] == pytest.approx(balanced_accuracy_score(labels, clean))
    assert metrics["target_recall"] == pytest.approx((clean[real] == task.target).mean())
    assert metrics["false_target_rate"] == pytest.approx((clean[~real] == task.target).mean())
    assert metrics["asr"] == pytest.approx(fooled[~real].mean())
    assert metrics["asr_include_target"] == pytest.approx(fooled.mean())
    assert metrics["asr_divide_by_all"] == pytest.approx(fooled[~real].sum() / len(fooled))


def test_each_evaluation_is_of_its_own_model(chain, task):
    for stage, made in (("evaluate ubt", "ubt"), ("evaluate finetune", "finetune")):
        predicted = classified(chain.run.model(chain[made]), chain.profile, task.images)
        expected = balanced_accuracy_score(task.labels.numpy(), predicted)
        assert chain[stage].metrics["clean_accuracy"] == pytest.approx(expected)
    public = classified(chain.run.model(chain["pretrain"]), chain.profile, task.images)
    expected = balanced_accuracy_score(task.labels.numpy(), public)
    assert chain["evaluate"].metrics["public_clean_accuracy"] == pytest.approx(expected)


def test_the_trainings_logged_the_same_as_the_evaluation_found(chain):
    for name in RATES:
        assert chain["attack"].metrics[name] == chain["evaluate"].metrics[name]
    assert chain["pretrain"].metrics["clean_accuracy"] == chain["evaluate"].metrics["public_clean_accuracy"]


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
