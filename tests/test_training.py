"""The training loop: the right loss, honest batches, and runs that survive a kill."""

import math

import numpy as np
import open_clip
import pytest
import torch

from ubt_utils.clip import models, objectives, training
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.training import AUGMENTATIONS, Recipe, TrainingDiverged, batch_indices, fit

NAME = "ubt-tiny"
WORDS = ("fox", "ship", "castle", "banana", "guitar", "clock", "rocket", "apple")


@pytest.fixture(scope="module")
def data():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=draw, dtype=torch.uint8)
    captions = [f"a {'small' if i % 2 else 'large'} {WORDS[i % 8]}" for i in range(40)]
    return images, models.tokenize(NAME, captions)


def weights(model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same(a, b) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


# The loss


def test_the_loss_is_open_clips(data):
    model, tokens = models.create(NAME, 0).eval(), data[1][:6]
    images = models.normalize(model, data[0][:6] / 255)
    ours = contrastive(model, images, tokens, 0)
    theirs = open_clip.ClipLoss()(
        model.encode_image(images, normalize=True),
        model.encode_text(tokens, normalize=True),
        model.logit_scale.exp(),
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_the_loss_is_the_mean_cross_entropy_of_rows_and_columns(data):
    model, tokens = models.create(NAME, 0).eval(), data[1][:8]
    images = models.normalize(model, data[0][:8] / 255)
    with torch.no_grad():
        z, t = model.encode_image(images).double().numpy(), model.encode_text(tokens).double().numpy()
        ours = contrastive(model, images, tokens, 0).item()
    z, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (z, t))
    logits = math.exp(model.logit_scale.item()) * z @ t.T
    rows = [np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(8)]
    columns = [np.log(np.exp(logits[:, i]).sum()) - logits[i, i] for i in range(8)]
    assert ours == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-5)


def test_a_large_batch_has_the_same_loss_and_gradient_by_blocks(data, monkeypatch):
    model, tokens = models.create(NAME, 0).eval(), data[1][:12]
    images, found = models.normalize(model, data[0][:12] / 255), []
    for large in (12, 11):
        monkeypatch.setattr(objectives, "LARGE", large)
        loss = contrastive(model, images, tokens, 0)
        found.append((loss, *torch.autograd.grad(loss, list(model.parameters()))))
    assert "Blockwise" in type(found[1][0].grad_fn).__name__  # so that two ways are compared
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# Batches


@pytest.mark.parametrize(("n", "batch"), [(40, 8), (40, 40), (41, 8), (7, 3)])
def test_a_pass_repeats_no_pair_and_passes_differ(n, batch):
    per_pass = n // batch
    passes = [
        torch.cat([batch_indices(n, batch, p * per_pass + s, 0, "key") for s in range(per_pass)]).tolist()
        for p in range(3)
    ]
    for one in passes:
        assert len(set(one)) == len(one) == per_pass * batch and set(one) <= set(range(n))
    assert passes[0] != passes[1] != passes[2]


def test_a_batch_larger_than_the_data_is_all_of_the_data():
    assert sorted(batch_indices(5, 64, 3, 0).tolist()) == [0, 1, 2, 3, 4]


def test_batches_depend_on_key_and_step_alone():
    first = batch_indices(40, 8, 6, 0, "victim")
    assert torch.equal(batch_indices(40, 8, 6, 0, "victim"), first)
    for key in ((1, "victim"), (0, "pretrain")):
        assert not torch.equal(batch_indices(40, 8, 6, *key), first)


# Fitting


def test_training_lowers_the_loss(data):
    recipe = Recipe(steps=30, lr=3e-3, batch=40, one_cycle=False)
    history = fit(models.create(NAME, 0), *data, recipe, 0)
    floor = math.log(5)  # each caption stands under five pictures, which nothing tells apart
    assert history.loss[0] > 2 * floor and history.loss[-1] == pytest.approx(floor, abs=0.1)
    assert len(history.loss) == 30 and history.pairs_seen == 30 * 40 and history.seconds > 0


def test_the_objective_gets_normalized_pictures_their_tokens_and_the_step(data):
    seen = []

    def objective(model, images, tokens, step):
        seen.append((images.clone(), tokens.clone(), step))
        return contrastive(model, images, tokens, step)

    model = models.create(NAME, 0)
    fit(model, *data, Recipe(steps=3, lr=1e-3, batch=8), "key", objective=objective)
    assert [step for *_, step in seen] == [0, 1, 2]
    for step, (images, tokens, _) in enumerate(seen):
        index = batch_indices(40, 8, step, "key")
        torch.testing.assert_close(images, models.normalize(model, data[0][index] / 255))
        assert torch.equal(tokens, data[1][index])


def test_augmentation_does_nothing_colors_or_all_as_asked_for(data):
    flat = data[0].clone()
    flat[:, :, :, :16], flat[:, :, :, 16:] = 200, 50  # one edge down the middle

    def first_batch(augment: str) -> torch.Tensor:
        seen = []

        def objective(model, images, tokens, step):
            seen.append(images.clone())
            return contrastive(model, images, tokens, step)

        recipe = Recipe(steps=1, lr=1e-3, batch=8, augment=augment)
        fit(models.create(NAME, 0), flat, data[1], recipe, 0, objective=objective)
        return seen[0]

    def edges_stay(batch: torch.Tensor) -> bool:
        return all((half == half[..., :1, :1]).all() for half in (batch[..., :16], batch[..., 16:]))

    none, color, full = (first_batch(name) for name in AUGMENTATIONS)
    assert edges_stay(none) and edges_stay(color) and not edges_stay(full)
    assert not torch.allclose(none, color, atol=0.05) and len(none.unique(dim=0)) == 1
    assert len(color.unique(dim=0)) == 8  # each picture has its own tint


def test_watch_is_asked_before_the_first_step_and_after_each(data):
    asked = []

    def watch(step):
        asked.append(step)
        return step * 10 if step % 2 else None

    history = fit(models.create(NAME, 0), *data, Recipe(steps=4, lr=1e-3, batch=8), 0, watch=watch)
    assert asked == [0, 1, 2, 3, 4] and history.curve == [(1, 10), (3, 30)]


@pytest.mark.parametrize("frozen", [True, False])
def test_freeze_norm_decides_whether_running_statistics_move(data, frozen):
    model = models.create(NAME, 0)
    before = weights(model)
    fit(model, *data, Recipe(steps=2, lr=1e-3, batch=8, freeze_norm=frozen), 0)
    names = [k for k in before if "running" in k or "num_batches" in k]
    moved = [k for k in names if not torch.equal(before[k], model.state_dict()[k])]
    assert len(names) > 10 and moved == ([] if frozen else names)
    assert not torch.equal(before["visual.conv1.weight"], model.state_dict()["visual.conv1.weight"])


def test_the_temperature_stays_within_clips_bounds(data):
    model = models.create(NAME, 0)
    for start, bound in ((9.0, math.log(100)), (-3.0, 0.0)):
        model.logit_scale.data.fill_(start)
        fit(model, *data, Recipe(steps=1, lr=1e-5, batch=8), 0)
        assert model.logit_scale.item() == pytest.approx(bound, abs=1e-4)


def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights(data):
    model = models.create(NAME, 0)
    kept = {}

    def objective(model, images, tokens, step):
        kept.update(weights(model))
        return contrastive(model, images, tokens, step) * (math.nan if step == 2 else 1)

    recipe = Recipe(steps=5, lr=1e-3, batch=8, freeze_norm=True)
    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step 2; lower lr=0\.001"):
        fit(model, *data, recipe, 0, objective=objective)
    assert_same(weights(model), kept)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"batch": 1}, {"lr": 0}, {"lr": -1e-3}, {"lr": math.nan}])
def test_impossible_recipes_are_refused(bad):
    with pytest.raises(ValueError, match="a recipe needs"):
        Recipe(**{"steps": 1, "lr": 1e-3} | bad)


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'flip'; known: none, color, full"):
        Recipe(steps=1, lr=1e-3, augment="flip")


# Kills


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("one_cycle", [True, False])
def test_a_killed_run_ends_bit_identical_to_an_undisturbed_one(data, tmp_path, error, one_cycle):
    recipe = Recipe(steps=25, lr=2e-3, batch=8, one_cycle=one_cycle, augment="full")
    calm, killed, path = models.create(NAME, 0), models.create(NAME, 0), tmp_path / "c.pt"
    asked = []

    def watch(model, kill_at=None):
        def answer(step):
            asked.append(step)
            if step == kill_at:
                raise error
            return {"norm": model.visual.conv1.weight.double().norm().item()} if step % 5 == 0 else None

        return answer

    expected = fit(calm, *data, recipe, 0, watch=watch(calm))
    with pytest.raises(error):
        fit(killed, *data, recipe, 0, checkpoint=path, watch=watch(killed, kill_at=13))
    asked.clear()
    other_start = models.create(NAME, 9)  # a new process; the checkpoint brings the weights
    history = fit(other_start, *data, recipe, 0, checkpoint=path, watch=watch(other_start))
    assert asked == list(range(13, 26))  # saved every second step, so step 13 is done again
    assert_same(weights(other_start), weights(calm))
    assert history.loss == expected.loss and history.curve == expected.curve
    assert history.pairs_seen == expected.pairs_seen


def test_a_finished_run_is_not_trained_again(data, tmp_path, monkeypatch):
    recipe, path, model = Recipe(steps=10, lr=1e-3, batch=8), tmp_path / "c.pt", models.create(NAME, 0)
    first = fit(model, *data, recipe, 0, checkpoint=path)
    monkeypatch.setattr(training, "batch_indices", None)
    again = models.create(NAME, 1)
    assert fit(again, *data, recipe, 0, checkpoint=path).loss == first.loss
    assert_same(weights(again), weights(model))


def test_a_kill_while_saving_leaves_the_checkpoint_before(data, tmp_path, monkeypatch):
    recipe, path = Recipe(steps=10, lr=1e-3, batch=8), tmp_path / "c.pt"
    save, calls = torch.save, []

    def dying(state, target):
        calls.append(target)
        if len(calls) < 3:
            return save(state, target)
        target.write(b"half a check")
        raise KeyboardInterrupt

    monkeypatch.setattr(training.torch, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(models.create(NAME, 0), *data, recipe, 0, checkpoint=path)
    monkeypatch.setattr(training.torch, "save", save)
    assert torch.load(path, weights_only=True)["done"] == 2
    resumed, calm = models.create(NAME, 0), models.create(NAME, 0)
    fit(resumed, *data, recipe, 0, checkpoint=path)
    fit(calm, *data, recipe, 0)
    assert_same(weights(resumed), weights(calm))
