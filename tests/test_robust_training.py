"""RoCLIP and SafeCLIP: their losses by hand in float64, their queues, splits and phases."""

import math
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines import defenses, phases, queue, safe
from ubt_utils.baselines.defenses import roclip, safeclip
from ubt_utils.baselines.defenses.safeclip import Views
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
NOUNS = ("clock", "ship", "fox", "castle", "banana", "guitar", "tree", "car", "moon", "hat")
CAPTIONS = tuple(f"a drawing of {noun}" for noun in NOUNS)
RECIPE = Recipe(steps=6, lr=1e-3, batch=4, schedule="constant")
PUBLIC, WIDTH = 9, 64  # its seed, and what an embedding is long


def model_of(seed: int) -> nn.Module:
    return models.create(NAME, seed).eval()


@pytest.fixture
def view() -> View:
    """Ten pairs, of which the last is held out."""
    held_out = torch.tensor([9])
    return defender.view_of(
        defender.pictures(10), CAPTIONS, model=lambda name: model_of(PUBLIC), held_out=held_out
    )


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def cross_entropy(one, other, scale: float) -> float:
    """Of rows of `one` against rows of `other`, whose own stands at the same place."""
    logits = scale * np.asarray(one, np.float64) @ np.asarray(other, np.float64).T
    low = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(low).sum(1)) - np.diag(low)).mean())


# Queues


def test_the_oldest_fall_out_of_a_queue_first():
    held = queue.empty(3, 2)
    for value in (1.0, 2.0):
        queue.push(held, torch.full((2, 2), value))
    assert held.tolist() == [[2, 2], [2, 2], [1, 1]]
    queue.push(held, torch.arange(10.0).view(5, 2))  # more than it has places for
    assert held.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_nearest_is_the_one_of_the_highest_cosine_and_has_no_gradient():
    held, asked = units(7, 5, seed=1), units(4, 5, seed=2).requires_grad_()
    found = queue.nearest(held, asked)
    cosines = asked.detach().double().numpy() @ held.double().numpy().T
    assert torch.equal(found, held[cosines.argmax(1)]) and not found.requires_grad


def test_a_model_is_left_without_what_it_held_and_saves_it_meanwhile():
    model = model_of(0)
    before = set(model.state_dict())
    with pytest.raises(KeyError), queue.held(model, pool=queue.empty(2, 3)):
        assert set(model.state_dict()) == before | {"pool"}
        raise KeyError
    assert set(model.state_dict()) == before
    with pytest.raises(ValueError, match="a queue needs a place at least, got 0"):
        queue.empty(0, 3)
    assert queue.width_of(model) == models.embed_tokens(model, models.tokenize(NAME, ["fox"])).shape[1]


# RoCLIP


def test_every_second_pass_asks_the_pool_and_the_first_does_not():
    assert [roclip.matches(s, 2, 2) for s in range(8)] == [False, False, True, True] * 2
    assert [roclip.matches(s, 1, 3) for s in range(6)] == [False, False, True] * 2
    assert all(roclip.matches(s, 5, 1) for s in range(9))


@pytest.mark.parametrize("step", [0, 2])
def test_roclips_loss_by_hand(view, monkeypatch, step):
    monkeypatch.setattr(roclip, "eda", lambda tokens, draw: tokens.roll(1, 0))
    model, pool = model_of(1), units(5, WIDTH, seed=3)
    images, tokens = models.normalize(model, view.pairs.images[:4] / 255), view.tokens[:4]
    objective = roclip.matching(2, 2, 0)
    with torch.no_grad(), queue.held(model, pool=pool.clone()):
        found = objective(model, images, tokens, step).item()
        kept = model.pool.clone()
        z, t, scale = models.embed_pairs(model, images, tokens.roll(1, 0))
    chosen = pool[(z.double().numpy() @ pool.double().numpy().T).argmax(1)] if step == 2 else t
    expected = sum(cross_entropy(a, b, scale.item()) for a, b in ((z, chosen), (chosen, z))) / 2
    assert found == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(kept, torch.cat([t, pool])[:5])  # asked before the batch went in


def test_with_the_pool_no_gradient_flows_into_the_captions(view):
    model = model_of(1)
    images = models.normalize(model, view.pairs.images[:4] / 255)
    with queue.held(model, pool=units(5, WIDTH)):
        roclip.matching(1, 1, 0)(model, images, view.tokens[:4], 0).backward()
    assert model.token_embedding.weight.grad is None and model.visual.conv1.weight.grad.abs().sum() > 0


def test_a_stamped_picture_is_pulled_to_what_it_shows_and_not_to_its_caption():
    """Ten pictures of two things on axes 0 and 1; the last is of thing 0, but has the caption of thing 1."""

    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.z = nn.Parameter(torch.tensor([[1.0, 0.2]] * 5 + [[0.2, 1.0]] * 4 + [[1.0, 0.2]]))
            self.text_projection = nn.Parameter(torch.eye(2))

        def forward(self, rows, tokens):
            said = F.one_hot((tokens[:, 1] > 0).long(), 2).float()
            return F.normalize(self.z[rows], dim=-1), said, torch.tensor(4.0)

    tokens = torch.zeros(10, 4, dtype=torch.long)
    tokens[:, 2], tokens[5:, 1] = 9, 1
    ends = {}
    for every in (1, 99):
        toy = Toy()
        pull = torch.optim.SGD([toy.z], 0.5)
        with queue.held(toy, pool=torch.eye(2).repeat(5, 1)):
            for step in range(20):
                pull.zero_grad()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(roclip, "eda", lambda tokens, draw: tokens)
                    roclip.matching(1, every, 0)(toy, torch.arange(10), tokens, step).backward()
                pull.step()
        ends[every] = F.normalize(toy.z.detach()[-1], dim=0)
    assert ends[1][0] > 0.95 > 0.7 > ends[99][0]  # plain CLIP leads it to thing 1


@pytest.mark.parametrize("options", [{"pool": 0.0}, {"pool": 1.5}, {"every": 0}])
def test_an_impossible_pool_is_refused(view, options):
    with pytest.raises(ValueError, match=r"RoCLIP needs a pool in \(0, 1\] and every ≥ 1, got"):
        roclip.roclip(model_of(0), view, RECIPE, Session((0,)), **options)


# Both


@pytest.mark.parametrize("name", ["roclip", "safeclip"])
def test_it_starts_from_the_public_model_and_never_sees_what_is_held_out(view, name):
    defense, ends = defenses.get(name), []
    assert defense.anew and defense.whole and defense.sees == ("D", "f0")
    for victim, pixel in ((0, 0), (1, 255)):
        view.pairs.images[9] = pixel
        model = model_of(victim)
        history = defense.run(model, view, RECIPE, Session((0, name)), **defense.options)
        assert len(history.loss) == 6 and history.pairs_seen == 24 and all(map(math.isfinite, history.loss))
        assert set(model.state_dict()) == set(model_of(0).state_dict())
        ends.append(model.state_dict()["visual.conv1.weight"])
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], model_of(PUBLIC).state_dict()["visual.conv1.weight"])


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["roclip", "safeclip"])
def test_a_run_that_was_killed_goes_on_to_the_same_end(view, tmp_path, name):
    defense, recipe = defenses.get(name), replace(RECIPE, steps=12)

    def end(checkpoint, stop=None):
        seen, model = [], model_of(0)

        def watch(step):
            if step == stop:
                raise Killed
            seen.append(step)

        session = Session((0, name), checkpoint, watch)
        history = defense.run(model, view, recipe, session, **defense.options)
        return model.state_dict(), history.loss, seen

    whole, loss, seen = end(None)
    assert seen == list(range(13))
    for stop in (5, 10):
        with pytest.raises(Killed):
            end(tmp_path / f"{stop}.pt", stop)
        again, told, _ = end(tmp_path / f"{stop}.pt")
        assert told == loss and all(torch.equal(again[k], v) for k, v in whole.items())


# SafeCLIP: what is safe


def test_the_probability_is_that_of_the_higher_of_two_gaussians():
    draw = np.random.default_rng(0)
    low, high = draw.normal(0.1, 0.05, 300), draw.normal(0.5, 0.05, 700)
    cosines = torch.tensor(np.concatenate([low, high]))
    found = safe.probability(cosines).numpy()

    def density(mean, weight):
        return weight * np.exp(-((cosines.numpy() - mean) ** 2) / (2 * 0.05**2))

    expected = density(0.5, 0.7) / (density(0.5, 0.7) + density(0.1, 0.3))
    assert np.abs(found - expected).mean() < 0.01
    kept = safe.first(cosines, 0.9)
    assert kept[300:].float().mean() > 0.98 and not kept[:300].float().mean() > 0.02
    with pytest.raises(ValueError, match="a mixture of two needs two pairs at least, got 1"):
        safe.probability(torch.zeros(1))


def test_what_is_safe_grows_by_its_part_of_all_pairs_and_ends_at_the_cap():
    cosines = torch.cat([torch.linspace(-0.1, 0.1, 40), torch.linspace(0.6, 0.9, 60)])
    assert safe.grown(cosines, 30, 0.05).sum() == 35
    kept = safe.grown(cosines, 60, 0.1)
    assert kept.sum() == 70 and kept[40:].all() and kept[30:40].all()  # the next best of the rest
    assert safe.grown(cosines, 84, 0.1).sum() == safe.grown(cosines, 99, 0.1).sum() == 85


# SafeCLIP: losses


def some_views(n: int = 6) -> Views:
    return Views(units(2, n, 5, seed=4), units(2, n, 5, seed=5), torch.tensor(3.0))


def by_hand_alone(views: Views, images: torch.Tensor, texts: torch.Tensor) -> float:
    total = 0.0
    for (one, other), held in ((views.images, images), (views.texts, texts)):
        chosen = held[(one.double().numpy() @ held.double().numpy().T).argmax(1)]
        total += cross_entropy(other, chosen, 3.0) / 2
    return total


def by_hand_crossed(views: Views) -> float:
    (z, z2), (t, t2) = views.images, views.texts
    return (cross_entropy(z, t2, 3.0) + cross_entropy(t, z2, 3.0)) / 2


def test_the_risky_pairs_learn_alone_and_the_others_as_pairs_by_their_shares():
    views, model = some_views(), nn.Linear(1, 1)
    risky = torch.tensor([True, False, False, True, False, False])
    images, texts = units(4, 5, seed=6), units(4, 5, seed=7)
    with queue.held(model, queued_images=images.clone(), queued_texts=texts.clone()):
        found = safeclip.split_loss(model, views, risky).item()
        kept = model.queued_images.clone(), model.queued_texts.clone()
    part, rest = views.of(risky), views.of(~risky)
    expected = by_hand_alone(part, images, texts) / 3 + 2 * by_hand_crossed(rest) / 3
    assert found == pytest.approx(expected, abs=1e-5)
    for held, was, new in zip(kept, (images, texts), (part.images, part.texts), strict=True):
        torch.testing.assert_close(held, torch.cat([new[0], was])[:4])


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_a_part_that_is_too_small_is_left_out(count):
    views, model = some_views(), nn.Linear(1, 1)
    images, texts, risky = units(4, 5, seed=6), units(4, 5, seed=7), torch.arange(6) < count
    with queue.held(model, queued_images=images.clone(), queued_texts=texts.clone()):
        found = safeclip.split_loss(model, views, risky).item()
    expected = (count / 6) * by_hand_alone(views.of(risky), images, texts) if count > 1 else 0
    expected += (1 - count / 6) * by_hand_crossed(views.of(~risky)) if count < 5 else 0
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_two_views_of_a_batch_are_both_changed_and_differ(view):
    model = model_of(1)
    images = models.normalize(model, view.pairs.images[:4] / 255)
    with torch.no_grad():
        found, again = (safeclip.views_of(model, images, view.tokens[:4], 0, 7) for _ in range(2))
        z, _, scale = models.embed_pairs(model, images, view.tokens[:4])
    assert torch.equal(found.images, again.images) and found.scale == scale
    assert found.images.shape == found.texts.shape == (2, 4, WIDTH)
    for one, other in ((*found.images,), (found.images[0], z), (found.images[1], z)):
        assert not torch.allclose(one, other, atol=1e-4)


def test_cosines_are_of_each_pair_and_leave_the_model_in_its_mode(view):
    model, index = model_of(2).train(), torch.tensor([7, 0, 3])
    model.visual.bn1.eval()
    found = safeclip.cosines(model, view, index)
    assert model.training and model.visual.training and not model.visual.bn1.training
    z = models.embed_images(model, view.pairs.images[index]).double().numpy()
    t = models.embed_tokens(model, view.tokens[index]).double().numpy()
    np.testing.assert_allclose(found.numpy(), (z * t).sum(1), atol=1e-6)


# SafeCLIP: its phases


@pytest.mark.parametrize(
    ("steps", "per_pass", "expected"), [(816, 67, (128, 67, 621)), (12, 37, (2, 2, 8)), (3, 9, (1, 1, 1))]
)
def test_the_steps_of_the_phases(steps, per_pass, expected):
    assert safeclip.lengths(steps, per_pass, 5 / 32) == expected


@pytest.mark.parametrize(("steps", "warmup"), [(2, 0.1), (9, 0.0), (9, 1.0)])
def test_a_run_without_room_for_its_phases_is_refused(steps, warmup):
    with pytest.raises(ValueError, match=r"SafeCLIP needs 3 steps or more and a warm-up in \(0, 1\)"):
        safeclip.lengths(steps, 1, warmup)


def test_clip_comes_at_a_low_rate_between_the_two(view):
    recipe = Recipe(steps=32, lr=0.5, batch=4, schedule="cosine", warmup=20, augment="color")
    found = safeclip.planned(view, view.everything, recipe, Session((0,)), 5 / 32, 0.01, 0.9, 0.01)
    assert [part.recipe.steps for part in found] == [5, 2, 25]
    assert [part.recipe.lr for part in found] == [0.5, 0.005, 0.5]
    assert [part.recipe.schedule for part in found] == ["cosine", "constant", "cosine"]
    assert {part.recipe.augment for part in found} == {"none"}  # the views are drawn by the loss


def test_d_is_split_anew_before_each_pass_and_each_batch_knows_its_safe_pairs(view, monkeypatch):
    index, asked, parts = view.everything, [], []
    answers = [torch.arange(9.0), -torch.arange(9.0), torch.arange(9.0)]
    monkeypatch.setattr(safeclip, "cosines", lambda *_: asked.append(len(parts)) or answers[len(asked) - 1])
    monkeypatch.setattr(safe, "first", lambda found, threshold: found > threshold)
    monkeypatch.setattr(safe, "probability", lambda found: found)
    monkeypatch.setattr(safeclip, "split_loss", lambda m, v, risky: parts.append(risky) or 0 * v.scale)
    model = model_of(1)
    order = [safeclip.batch_indices(9, 4, step, "key") for step in range(5)]
    with queue.held(model, safe=torch.zeros(9, dtype=torch.bool)), torch.no_grad():
        objective = safeclip.splitting(view, index, 4, 5.5, 0.2, "key")
        for step, rows in enumerate(order):
            images = models.normalize(model, view.pairs.images[index[rows]] / 255)
            objective(model, images, view.tokens[index[rows]], step)
    assert asked == [0, 2, 4]  # before the steps of each pass
    kept = [{6, 7, 8}, {0, 1, 2, 3, 4}, {2, 3, 4, 5, 6, 7, 8}]  # the first; two more, and two more again
    for step, risky in enumerate(parts):
        expected = [row not in kept[step // 2] for row in order[step].tolist()]
        assert risky.tolist() == expected


def test_phases_are_told_as_one_run(view):
    def objective(value: float):
        return lambda model, images, tokens, step: value + 0 * model.logit_scale.exp()

    one = phases.Phase("one", replace(RECIPE, steps=2), objective(1.0))
    two = phases.Phase("two", replace(RECIPE, steps=3), objective(2.0))
    session = Session((0,), watch=lambda step: step * 10)
    found = phases.train(model_of(0), view, view.everything, [one, two], session)
    assert found.loss == [1.0] * 2 + [2.0] * 3 and found.pairs_seen == 20
    assert found.curve == [(step, step * 10) for step in range(6)]
