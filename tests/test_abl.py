"""ABL: what is turned around, what is isolated, what is climbed, and how its two trainings are one."""

import math
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ubt_utils.baselines import defenses
from ubt_utils.baselines.defenses import abl
from ubt_utils.baselines.detectors.losses import pair_loss, pair_losses
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
CAPTIONS = ("a clock", "a red fox", "a castle", "a ship", "a fox", "nothing to see")
RECIPE = Recipe(steps=15, lr=1e-3, batch=4, schedule="constant", freeze_norm=True)  # 2 of them first, 1 last
VICTIM, PUBLIC = 0, 9  # seeds of the two models


def model_of(seed: int):
    return models.create(NAME, seed).eval()


@pytest.fixture
def view() -> View:
    public = {"public": model_of(PUBLIC)}.__getitem__
    return defender.view_of(defender.pictures(6), CAPTIONS, pool=torch.arange(6) < 2, model=public)


def unit(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


# The loss


def test_a_pairs_loss_is_the_mean_of_its_row_and_its_column():
    z, t = unit(5, 0), unit(5, 1)
    logits = 7.0 * z.double().numpy() @ t.double().numpy().T
    rows, columns = (np.log(np.exp(logits).sum(axis)) - np.diag(logits) for axis in (1, 0))
    np.testing.assert_allclose(pair_losses(z, t, 7.0).numpy(), (rows + columns) / 2, atol=1e-5)
    np.testing.assert_allclose(pair_loss(z, t, 7.0).mean(), ((rows + columns) / 2).mean(), atol=1e-5)


@pytest.mark.parametrize("alike", [1, 2, 3])
def test_pairs_that_are_alike_stay_at_the_logarithm_of_their_number(alike):
    which = torch.arange(6).clamp(min=alike - 1)  # the first ones show and say the same
    found = pair_losses(torch.eye(6)[which], torch.eye(6)[which], 100.0)
    assert found[0].item() == pytest.approx(math.log(alike), abs=1e-5)
    assert found[-1].item() == pytest.approx(0 if alike < 6 else math.log(6), abs=1e-5)


def test_losses_below_gamma_are_turned_around():
    loss = torch.tensor([0.2, 0.4, 3.0], requires_grad=True)
    found = abl.turned(loss, 0.5)
    found.backward()
    assert found.item() == pytest.approx((-0.2 - 0.4 + 3.0) / 3)
    assert loss.grad.tolist() == pytest.approx([-1 / 3, -1 / 3, 1 / 3])


@pytest.mark.parametrize(("gamma", "sign"), [(0.0, 1), (1e9, -1)])
def test_all_are_learned_above_gamma_and_all_are_unlearned_below(view, gamma, sign):
    model = model_of(2)
    batch = models.normalize(model, view.pairs.images.float() / 255)
    with torch.no_grad():
        found = abl.ascending(gamma)(model, batch, view.tokens, 0).item()
        assert found == pytest.approx(sign * contrastive(model, batch, view.tokens, 0).item(), abs=1e-4)


# The climb


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_climbing_stops_at_chance(view, weight, monkeypatch):
    monkeypatch.setattr(abl, "PART", 1)
    model, images, tokens = model_of(2), view.pairs.images, view.tokens
    first, last = (models.normalize(model, part.float() / 255) for part in (images[:3], images[3:]))
    with torch.no_grad():
        found = abl.climbing(images[3:], tokens[3:], weight, 0, 0)(model, first, tokens[:3], 0).item()
        descend, climb = contrastive(model, first, tokens[:3], 0), contrastive(model, last, tokens[3:], 0)
    assert climb > math.log(3)
    assert descend.item() - found == pytest.approx(weight * math.log(3), abs=1e-4)


def test_below_chance_the_isolated_pairs_own_loss_is_climbed(view, monkeypatch):
    own, first = torch.tensor(0.5, requires_grad=True), view.pairs.images[:4].float()
    losses = iter([torch.tensor(2.0), own])  # of the batch, then of the isolated pairs
    monkeypatch.setattr(abl, "contrastive", lambda *_: next(losses))
    monkeypatch.setattr(abl, "PART", 1)
    climb = abl.climbing(view.pairs.images[3:], view.tokens[3:], 3.0, 0, 0)
    found = climb(model_of(2), first, view.tokens, 0)
    found.backward()
    assert found.item() == pytest.approx(2.0 - 3.0 * 0.5) and own.grad.item() == -3.0


def test_a_quarter_of_a_batch_climbs_and_only_at_the_end(view, monkeypatch):
    sizes = []
    monkeypatch.setattr(abl, "contrastive", lambda m, i, t, s: sizes.append(len(i)) or torch.tensor(0.5))
    climb = abl.climbing(view.pairs.images, view.tokens, 1.0, 7, 0)
    for step in (6, 7):
        climb(model_of(2), torch.zeros(12, 3, 32, 32), view.tokens, step)
    assert sizes == [12, 12, 3]
    assert defenses.get("abl").cost == pytest.approx(1 + 5 / 75 / 4)


# The whole


def test_the_lowest_losses_are_isolated_and_what_is_held_out_is_in_neither_part(view, monkeypatch):
    loss = torch.tensor([0.1, 0.6, 0.2, 0.3, 0.05, 0.4])
    monkeypatch.setattr(abl, "pair_loss", lambda z, t, scale: loss)
    chosen, rest = abl.isolated(model_of(0), replace(view, held_out=torch.tensor([0, 4])), 0.5)
    assert chosen.tolist() == [2, 3] and rest.tolist() == [1, 5]


def test_it_trains_f0_on_all_of_d_then_on_the_rest(view, monkeypatch):
    told = []

    def train(model, view, index, recipe, session, objective, label):
        told.append((index.tolist(), recipe.steps, session.key, model.state_dict()["visual.conv1.weight"]))
        return History([1.0], 2.0, 3, [], 4.0, 0.0)

    monkeypatch.setattr(abl, "train_on", train)
    monkeypatch.setattr(abl, "isolated", lambda *_: (torch.tensor([2, 0]), torch.tensor([1, 3])))
    kept = replace(view, held_out=torch.tensor([5]))
    history = abl.abl(model_of(VICTIM), kept, RECIPE, Session((0,)))
    assert [one[:3] for one in told] == [([0, 1, 2, 3, 4], 2, (0, "first")), ([1, 3], 13, (0, "second"))]
    assert torch.equal(told[0][3], model_of(PUBLIC).state_dict()["visual.conv1.weight"])
    assert (history.loss, history.seconds, history.pairs_seen, history.watched) == ([1.0, 1.0], 4.0, 6, 8.0)


def test_it_is_watched_at_every_step_once(view):
    history = abl.abl(model_of(0), view, RECIPE, Session((0,), watch=lambda step: step))
    assert history.curve == [(step, step) for step in range(16)]
    assert len(history.loss) == 15 and history.pairs_seen == 60


def test_the_last_fifteenth_of_the_steps_climbs_what_was_isolated(view, monkeypatch):
    told = []
    monkeypatch.setattr(abl, "isolated", lambda *_: (torch.tensor([2, 0]), torch.tensor([1, 3, 4, 5])))
    monkeypatch.setattr(abl, "climbing", lambda *asked: told.append(asked) or contrastive)
    abl.abl(model_of(0), view, RECIPE, Session((0,)), weight=3.0)
    ((images, tokens, weight, start, *key),) = told
    assert torch.equal(images, view.pairs.images[[2, 0]]) and torch.equal(tokens, view.tokens[[2, 0]])
    assert (weight, start, key) == (3.0, 12, [0])  # of 13 that are left of 15, the last one


def test_it_stands_in_for_the_victims_training():
    entry = defenses.get("abl")
    assert entry.whole and entry.anew and entry.sees == ("D", "f0") and entry.looks == 1
