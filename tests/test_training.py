"""The training loop: the right loss, honest batches, and runs that survive a kill."""

import math
import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from ubt_utils.clip import models, objectives, training
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import AUGMENTATIONS, DECAYED, SCHEDULES, Recipe
from ubt_utils.clip.training import TrainingDiverged, batch_indices, fit
from ubt_utils.core import device

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
    recipe = Recipe(steps=30, lr=3e-3, batch=40, schedule="constant")
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


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("augment", "none, color, full"),
        ("schedule", "one_cycle, cosine, high_first, constant"),
        ("decay", "all, matrices"),
    ],
)
def test_unknown_words_of_a_recipe_are_refused(field, known):
    with pytest.raises(ValueError, match=f"unknown {field} 'flip'; known: {known}"):
        Recipe(steps=1, lr=1e-3, **{field: "flip"})


@pytest.mark.parametrize("warmup", [-1, 6])
def test_a_warmup_longer_than_the_run_is_refused(warmup):
    with pytest.raises(ValueError, match=f"warmup must be between 0 and steps, got {warmup} of 5"):
        Recipe(steps=5, lr=1e-3, warmup=warmup)


# The learning rate and what decays


def rates(recipe: Recipe) -> list[float]:
    """The learning rate of each step."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], recipe.lr)
    schedule, found = training.schedule_of(optimizer, recipe), []
    for _ in range(recipe.steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule:
            schedule.step()
    return found


@pytest.mark.parametrize("warmup", [0, 1, 4, 10])
def test_cosine_rises_in_a_line_and_falls_as_a_cosine(warmup):
    rise = [0.3 * (step + 1) / warmup for step in range(warmup)]
    fall = [0.15 * (1 + math.cos(math.pi * step / (10 - warmup))) for step in range(10 - warmup)]
    found = rates(Recipe(steps=10, lr=0.3, schedule="cosine", warmup=warmup))
    assert found == pytest.approx(rise + fall) and max(found) == pytest.approx(0.3)


def test_high_first_falls_in_a_line_to_a_tenth_and_then_as_a_cosine():
    line = [0.3, 0.246, 0.192, 0.138, 0.084]  # nine tenths of the way to 0.03, a fifth of them a step
    wave = [0.015 * (1 + math.cos(math.pi * step / 5)) for step in range(5)]
    assert rates(Recipe(steps=10, lr=0.3, schedule="high_first")) == pytest.approx(line + wave)
    assert rates(Recipe(steps=1, lr=0.3, schedule="high_first")) == pytest.approx([0.03])


def test_constant_stays_and_one_cycle_peaks_on_its_way():
    assert rates(Recipe(steps=10, lr=0.3, schedule="constant")) == [0.3] * 10
    found = rates(Recipe(steps=10, lr=0.3))
    assert max(found) == pytest.approx(0.3) and found[0] < 0.1 and found[-1] < 0.01
    assert 0 < found.index(max(found)) < 9


def test_training_takes_its_steps_at_the_schedules_rates(data, monkeypatch):
    taken, real = [], torch.optim.AdamW.step

    def step(self, *words, **more):
        taken.append([group["lr"] for group in self.param_groups])
        return real(self, *words, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    recipe = Recipe(steps=6, lr=1e-3, batch=8, schedule="cosine", warmup=2, decay="matrices")
    fit(models.create(NAME, 0), *data, recipe, 0)
    monkeypatch.undo()
    assert taken == [[pytest.approx(rate)] * 2 for rate in rates(recipe)]


@pytest.mark.parametrize("decay", DECAYED)
def test_one_step_is_adamws_by_hand_and_only_matrices_decay_where_asked_for(data, decay):
    recipe = Recipe(steps=1, lr=0.1, batch=8, weight_decay=0.5, schedule="constant", decay=decay)
    model, gradients = models.create(NAME, 0), {}

    def objective(model, images, tokens, step):
        loss = contrastive(model, images, tokens, step)
        for name, parameter in model.named_parameters():
            parameter.register_hook(lambda g, name=name: gradients.update({name: g.double().clone()}))
        return loss

    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    fit(model, *data, recipe, 0, objective=objective)
    flat = {name for name, value in before.items() if value.dim() <= 1}
    assert {"logit_scale", "ln_final.weight", "visual.bn1.bias"} <= flat
    for name, parameter in model.named_parameters():
        g = gradients[name]  # of the first step, bias-corrected, the moments are g and g²
        shrunk = before[name] * (1 if name in flat and decay == "matrices" else 1 - 0.1 * 0.5)
        expected = shrunk - 0.1 * g / (g.abs() + 1e-8)
        if name == "logit_scale":
            expected = expected.clamp(0, models.MAX_LOGIT_SCALE)
        torch.testing.assert_close(parameter.detach().double(), expected, atol=1e-4, rtol=1e-4)


# Precision


def test_all_of_a_loss_is_taken_in_the_devices_precision_and_the_step_in_full(data, monkeypatch):
    half = torch.autocast("cpu", torch.bfloat16)
    monkeypatch.setattr(device, "autocast", lambda where, grouped: half)
    taken, model = [], models.create(NAME, 0)

    def objective(model, images, tokens, step):
        taken.append((model.text_projection @ model.text_projection.T).dtype)
        return contrastive(model, images, tokens, step)

    fit(model, *data, Recipe(steps=2, lr=1e-3, batch=8), 0, objective=objective)
    assert taken == [torch.bfloat16] * 2
    assert (
        {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}
    )


def test_whatever_the_towers_compute_in_the_loss_is_of_unit_vectors_in_single_precision(data, monkeypatch):
    model, tokens = models.create(NAME, 0), data[1][:8]
    images, seen = models.normalize(model, data[0][:8] / 255), []
    for large in (8, 7):  # by a matrix, and by blocks
        monkeypatch.setattr(objectives, "LARGE", large)
        with torch.autocast("cpu", torch.bfloat16):
            z, t, scale = models.embed_pairs(model.eval(), images, tokens)
            seen.append(contrastive(model, images, tokens, 0))
    for side in (z, t):
        assert side.dtype == torch.float32
        torch.testing.assert_close(side.norm(dim=1), torch.ones(8), atol=1e-6, rtol=0)
    expected = open_clip.ClipLoss()(z, t, scale)
    for loss in seen:
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


# Kills


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("decay", DECAYED)
def test_a_killed_run_ends_bit_identical_to_an_undisturbed_one(data, tmp_path, error, schedule, decay):
    recipe = Recipe(steps=25, lr=2e-3, batch=8, schedule=schedule, decay=decay, augment="full")
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


@pytest.mark.parametrize("damage", [b"", b"half a check", "cut", "foreign"])
def test_a_damaged_checkpoint_is_put_aside_and_the_training_starts_anew(data, tmp_path, damage):
    recipe, path = Recipe(steps=10, lr=1e-3, batch=8), tmp_path / "c.pt"
    calm = models.create(NAME, 0)
    expected = fit(calm, *data, recipe, 0, checkpoint=path)
    if isinstance(damage, str):
        damage = path.read_bytes()[: path.stat().st_size // 2] if damage == "cut" else pickle.dumps(Path("x"))
    path.write_bytes(damage)
    again = models.create(NAME, 0)
    with pytest.warns(UserWarning, match=r"(?s)c\.damaged cannot be read .*: the training starts anew"):
        history = fit(again, *data, recipe, 0, checkpoint=path)
    assert (tmp_path / "c.damaged").read_bytes() == damage
    assert history.loss == expected.loss and history.before == 0
    assert_same(weights(again), weights(calm))
    assert torch.load(path, weights_only=True)["done"] == 10  # and goes on writing
