"""Holding what a word means while its backdoor is pushed away, computed by hand."""

from dataclasses import replace

import defender
import numpy as np
import pytest
import torch

from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.ubt import unlearn as unlearning
from ubt_utils.ubt.defense import Session, View
from ubt_utils.ubt.hold import holding, honest
from ubt_utils.ubt.settings import Unlearn

NAME = "ubt-tiny"
CAPTIONS = (
    "a banana",
    "a banana on ice",
    "castle",
    "banana",
    "two bananas",
    "fox",
    "my banana",
    "the banana",
)
RECIPE = Recipe(steps=2, lr=1e-3, batch=4, schedule="constant", freeze_norm=True)


@pytest.fixture
def view() -> View:
    """Eight pairs: the first is D_u; 1, 3, 6 and 7 are carriers in D_safe, of which 7 suffers most."""
    banana = models.tokenize(NAME, ["banana"])[0, 1:2]
    return defender.view_of(
        defender.pictures(8),
        CAPTIONS,
        pool=torch.arange(8) == 0,
        suspicious=torch.tensor([0]),
        compromised=banana,
        suffers=torch.tensor([1.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.3]),
        anchors=banana,
        model=lambda name: models.create(NAME, 9),
        score=lambda name: torch.arange(8.0),
        names=(("banana",), ("fox",)),
    )


def embedding(model, view: View, index: list[int]) -> np.ndarray:
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, view.pairs.images[index] / 255)).double().numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_of_the_honest_carriers_the_half_is_held_that_suffers_least(view):
    assert honest(view).tolist() == [3, 1]
    assert honest(replace(view, held_out=torch.tensor([3, 5]))).tolist() == [1, 6]  # two of three
    poison = replace(view, suffers=view.suffers.index_fill(0, torch.tensor([1, 3]), 0.9))
    assert honest(poison).tolist() == [6]  # what suffers like poison is not in D_safe


def test_the_loss_is_how_far_held_pictures_turn(view):
    before, after = models.create(NAME, 1).eval(), models.create(NAME, 2).eval()
    held = holding(before, view, 64, 0)
    with torch.no_grad():
        found = held(after, 0).item()
        assert held(before, 0).item() == pytest.approx(0, abs=1e-6)
    cosine = (embedding(before, view, [1, 3]) * embedding(after, view, [1, 3])).sum(1)
    assert found == pytest.approx(1 - cosine.mean(), abs=1e-6) and found > 1e-3


def test_at_most_so_many_are_held_and_others_each_step(view):
    before, after = models.create(NAME, 1).eval(), models.create(NAME, 2).eval()
    held = holding(before, view, 1, 0)
    with torch.no_grad():
        steps = {round(held(after, step).item(), 6) for step in range(12)}
    each = 1 - (embedding(before, view, [1, 3]) * embedding(after, view, [1, 3])).sum(1)
    assert sorted(steps) == pytest.approx(sorted(each), abs=1e-5)


def test_where_no_honest_picture_says_the_word_nothing_is_held(view):
    alone = replace(view, compromised=models.tokenize(NAME, ["guitar"])[0, 1:2])
    assert holding(models.create(NAME, 1), alone, 64, 0) is None


def test_unlearning_adds_it_to_the_push_at_its_weight(view, monkeypatch):
    seen = {}

    def train_on(model, view, kept, recipe, session, objective, label):
        batch = models.normalize(model, view.pairs.images[kept] / 255)
        moved = models.create(NAME, 2).eval()
        with torch.no_grad():
            seen[len(seen)] = objective(moved, batch, view.tokens[kept], 0).item()

    monkeypatch.setattr(unlearning, "train_on", train_on)
    for hold in (0.0, 0.5, 2.0):
        unlearning.unlearn(
            models.create(NAME, 1).eval(), view, RECIPE, Session((0, "ubt")), weight=1.0, hold=hold
        )
    held = holding(models.create(NAME, 1).eval(), view, 4, 0, "ubt")
    with torch.no_grad():
        more = held(models.create(NAME, 2).eval(), 0).item()
    assert more > 1e-3
    assert [seen[1] - seen[0], seen[2] - seen[0]] == pytest.approx([0.5 * more, 2 * more], abs=1e-5)


def test_without_a_push_nothing_is_held(view):
    ends = []
    for hold in (0.0, 5.0):
        model = models.create(NAME, 1)
        unlearning.unlearn(model, view, RECIPE, Session((0, "ubt")), weight=0.0, hold=hold)
        ends.append(model.state_dict()["visual.conv1.weight"].clone())
    assert torch.equal(*ends)


def test_a_step_pays_for_what_it_trains_on():
    how = Unlearn(Recipe(steps=1, lr=1e-3, batch=128), weight=1.0, hold=1.0)
    assert how.pairs(64) == 256 and replace(how, hold=0.0).pairs(64) == 192
    assert replace(how, weight=0.0).pairs(64) == 128 and how.pairs(500) == 3 * 128


@pytest.mark.parametrize(("name", "value"), [("weight", -1.0), ("hold", -0.5), ("hold", float("nan"))])
def test_a_weight_below_zero_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"unlearning {name} must be 0 or more, got {value}"):
        Unlearn(RECIPE, **{name: value})
