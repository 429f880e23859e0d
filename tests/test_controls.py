"""Controls: training on, merging, and leaving out what a detector lists."""

from dataclasses import replace

import defender
import pytest
import torch

from ubt_utils.baselines import defenses
from ubt_utils.baselines.defenses import controls, finetune
from ubt_utils.baselines.defenses.controls import carry_on, merge, retrain_listed
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
RECIPE = Recipe(steps=2, lr=1e-3, batch=2, schedule="constant", freeze_norm=True)
SCORES = {"gain": [9.0, 1, 8, 2, 7, 3], "dao": [0.0, 1, 2, 3, 4, 5]}
VICTIM, PUBLIC = 0, 9  # seeds of the two models


@pytest.fixture
def view() -> View:
    """Six pairs: 0 to 2 in the pool, 1 and 4 suffer like poison, 5 is held out."""
    captions = ("a clock", "a ship", "a fox", "a castle", "a banana", "a guitar")
    return defender.view_of(
        defender.pictures(6),
        captions,
        pool=torch.arange(6) < 3,
        suspicious=torch.tensor([1]),
        compromised=models.tokenize(NAME, ["ship"])[0, 1:2],
        suffers=torch.tensor([-torch.inf, 1.0, 0.3, -torch.inf, 0.5, -torch.inf]),
        anchors=models.tokenize(NAME, ["ship"])[0, 1:2],
        model={"public": models.create(NAME, PUBLIC)}.__getitem__,
        score=lambda name: torch.tensor(SCORES[name]),
        held_out=torch.tensor([5]),
    )


@pytest.fixture
def trained(monkeypatch) -> list[tuple[list[int], dict]]:
    """Per training its pairs and the weights that it starts from; none is done."""
    told = []

    def train(model, view, index, recipe, session, label=""):
        told.append((index.tolist(), {name: weight.clone() for name, weight in model.state_dict().items()}))
        return History()

    for module in (controls, finetune):
        monkeypatch.setattr(module, "train_on", train)
    return told


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_going_on_trains_on_everything_but_what_is_held_out(view, trained):
    carry_on(models.create(NAME, VICTIM), view, RECIPE, Session((0,)))
    ((index, start),) = trained
    assert index == [0, 1, 2, 3, 4] and same(start, models.create(NAME, VICTIM).state_dict())


def test_what_is_held_out_does_not_matter_to_it(view):
    ends = []
    for pixel in (0, 255):
        view.pairs.images[5] = pixel
        model = models.create(NAME, VICTIM)
        assert carry_on(model, view, replace(RECIPE, steps=5), Session((0,))).pairs_seen == 10
        ends.append(model.state_dict())
    assert same(*ends)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_merging_lies_on_the_way_from_f0_to_the_victim(view, share):
    model, victim = models.create(NAME, VICTIM), models.create(NAME, VICTIM).state_dict()
    public = view.model("public")
    public.visual.bn1.running_mean.fill_(4.0)
    public.visual.bn1.num_batches_tracked.fill_(7)
    history = merge(model, view, RECIPE, Session((0,)), share)
    found = model.state_dict()
    for name, weight in found.items():
        if weight.is_floating_point():
            expected = (1 - share) * public.state_dict()[name] + share * victim[name]
            torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)
    assert found["visual.bn1.running_mean"].mean().item() == pytest.approx(4 * (1 - share))
    assert found["visual.bn1.num_batches_tracked"] == 0  # the victim's: a count has no middle
    assert history == History()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 2, 3]),  # without the poison, in the pool and outside
        ({"detector": "gain", "count": 2}, [1, 3, 4]),  # 0 and 2 score highest
        ({"detector": "dao", "count": 2}, [0, 1, 2, 3]),  # 5 and 4, of which 5 is held out anyway
    ],
)
def test_what_is_listed_is_left_out_and_f0_is_trained(view, trained, options, kept):
    retrain_listed(models.create(NAME, VICTIM), view, RECIPE, Session((0,)), **options)
    ((index, start),) = trained
    assert index == kept and same(start, view.model("public").state_dict())


def test_where_nothing_was_found_nothing_is_left_out(view, trained):
    clean = replace(view, suffers=torch.full((6,), -torch.inf))
    retrain_listed(models.create(NAME, VICTIM), clean, RECIPE, Session((0,)))
    assert trained[0][0] == [0, 1, 2, 3, 4]


def test_the_registry_says_what_each_control_sees():
    anew = {"retrain_ubt", "retrain_gain", "retrain_dao"}
    found = {name: defenses.get(name) for name in ("carry_on", "merge", *anew)}
    assert {name: one.anew for name, one in found.items()} == {name: name != "carry_on" for name in found}
    assert {name for name, one in found.items() if one.whole} == anew
    assert dict(found["retrain_gain"].options) == {"detector": "gain"} and not found["retrain_ubt"].options
    assert found["carry_on"].sees == ("D",) and found["merge"].sees == ("f0",)
    assert found["retrain_ubt"].sees == ("D", "f0", "detection")
    assert found["retrain_dao"].fed_by == "dao" and not any(one.is_ubt for one in found.values())
