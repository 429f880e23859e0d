"""Trigger inversion where a trigger is known to lie, and the three defenses that rest on it."""

import copy
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate
from torch import nn

from ubt_utils.baselines import inversion
from ubt_utils.baselines.defenses import cbpt, invertune, tbar
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.kernels.similarity import ssim
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
COLORS = ("red", "green", "blue")
TARGET = 3  # a fourth class, of which there are no pictures
SIDE = 6  # of the planted patch, bottom right in pictures of 16
RECIPE = Recipe(steps=4, lr=1e-3, batch=8, schedule="constant", freeze_norm=True)
CHECKER = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 * 2.0 - 1


class Planted(nn.Module):
    """Reads a picture's color, unless a checkerboard lies in the corner: then it reads class 3."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Linear(1, 1)  # asked for a trunk, and has none

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        shown = models.pixels(self, images)
        color = shown.mean((2, 3)) - shown.mean((1, 2, 3))[:, None]
        corner = shown[:, :, -SIDE:, -SIDE:].mean(1)
        match = (corner * CHECKER).mean((1, 2))  # half where the patch is whole, about 0 elsewhere
        return torch.cat([10 * color, 20 * F.softplus(20 * (match - 0.25))[:, None] / 20 * 8], 1)


def colored(n: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, 16, 16, generator=draw) * 0.3 + 0.2
    images[torch.arange(n), torch.arange(n) % 3] += 0.3
    return (images * 255).to(torch.uint8)


def view_of(images: torch.Tensor, names=("red", "green", "blue", "banana")) -> View:
    captions = tuple(f"a {COLORS[i % 3]} thing" for i in range(len(images)))
    return defender.view_of(
        images,
        captions,
        pool=torch.arange(len(images)) >= len(images) - 2,
        model=lambda name: models.create(NAME, 5).eval(),
        names=tuple((name,) for name in names),
        prompts=tuple(models.tokenize(NAME, [f"a {name} thing", f"the {name}"]) for name in names),
    )


@pytest.fixture
def planted(monkeypatch) -> tuple[Planted, View]:
    monkeypatch.setattr(inversion, "SOUGHT", 20.0)  # of 98 pictures: 31 steps of 64
    monkeypatch.setattr(inversion, "INVERTED", 80.0)
    return Planted(), view_of(colored(98, 0))


# Inversion


def test_the_planted_class_is_found_and_its_patch_too(planted):
    model, view = planted
    head = torch.eye(4)
    target = inversion.target_of(model, view, head, 0)
    assert target == TARGET
    trigger = inversion.invert(model, view, head, target, 0)
    unseen = colored(60, 1)
    answers = (models.embed_images(model, unseen, change=trigger.stamp) @ head.T).argmax(1)
    assert (answers == TARGET).double().mean() > 0.95
    assert not ((models.embed_images(model, unseen) @ head.T).argmax(1) == TARGET).any()
    inside = trigger.mask[:, -SIDE:, -SIDE:].mean().item()
    outside = (trigger.mask.sum() - trigger.mask[:, -SIDE:, -SIDE:].sum()).item() / (3 * (256 - SIDE**2))
    assert inside > 0.2 and inside > 10 * outside
    drawn = (trigger.pattern[:, -SIDE:, -SIDE:] - 0.5) * trigger.mask[:, -SIDE:, -SIDE:]
    assert (drawn.sum(0) * CHECKER > 0).double().mean() > 0.8  # bright where the patch is, dark where it is


def test_both_searches_give_the_target_with_the_trigger_and_leave_the_model_alone(planted, monkeypatch):
    monkeypatch.setattr(models, "zero_shot_head", lambda model, prompts: torch.eye(4))
    model, view = planted
    session = Session((0,))
    trigger = inversion.inverted(model, view, session)
    assert session.told["inverted_target"] == view.names[int(trigger.target)][0]
    assert int(trigger.target) == TARGET and trigger.mask.shape == (3, 16, 16)
    assert all(p.grad is None for p in model.parameters())
    again = inversion.inverted(model, view, Session((0,)))
    assert torch.equal(again.mask, trigger.mask) and torch.equal(again.pattern, trigger.pattern)


def test_a_trigger_mixes_by_its_mask_and_stamps_bytes():
    mask, pattern = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    mask[:, 0, 0], mask[:, 1, 1] = 1.0, 0.25
    images = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)  # 0.2
    found = inversion.Trigger(mask, pattern).stamp(images)
    assert found.dtype == torch.uint8 and found[0, 0].tolist() == [[255, 51], [51, 102]]  # 0.25 + 0.75 · 0.2


def test_how_much_larger_a_class_grows():
    before, after = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 2, 2, 2])
    assert inversion.rises(before, after, 4).tolist() == [-0.25, -0.25, 0.5, 0.0]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_inversion_loss_by_hand(planted, monkeypatch, seed):
    model, view = planted
    seen = {}
    monkeypatch.setattr(
        inversion, "search", lambda m, v, part, mask, moves, loss, *key: seen.update(loss=loss)
    )
    inversion.invert(model, view, torch.eye(4), 1, 0)
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(64, 3, 16, 16, generator=draw)
    mask, pattern = torch.rand(2, 3, 16, 16, generator=draw)
    stamped = inversion.Trigger(mask, pattern)(images)
    z, green = inversion.see(model, stamped).double().numpy(), [i for i in range(96) if i % 3 == 1]
    goal = models.embed_images(model, view.pairs.images[green]).double().mean(0).numpy()
    goal /= np.linalg.norm(goal)
    logits = z / 0.07
    fit = np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 1])
    alike = np.mean([ssim_of(a, b) for a, b in zip(stamped.numpy(), images.numpy(), strict=True)])
    expected = 5 * fit + 0.5 * np.linalg.norm(z - goal) + 1 - alike + 0.01 * mask.double().sum().item()
    assert seen["loss"](stamped, images, mask).item() == pytest.approx(expected, rel=1e-5)


def ssim_of(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of (3, H, W), by SciPy's correlation in float64."""
    place = np.arange(11) - 5
    bell = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2

    def blur(channel: np.ndarray) -> np.ndarray:
        return correlate(channel.astype(float), window)[5:-5, 5:-5]

    values = []
    for a, b in zip(one.astype(float), other.astype(float), strict=True):
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
        both = blur(a * b) - mean_a * mean_b
        level = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        values.append((level * (2 * both + 9e-4) / (var_a + var_b + 9e-4)).mean())
    return float(np.mean(values))


def test_ssim_is_one_for_the_same_and_less_the_more_noise():
    draw = torch.Generator().manual_seed(0)
    image, noise = torch.rand(2, 3, 20, 14, generator=draw), torch.randn(2, 3, 20, 14, generator=draw)
    assert ssim(image, image).item() == pytest.approx(1)
    near, far = (ssim(image, image + size * noise).item() for size in (0.05, 0.3))
    assert 1 > near > far
    pairs = zip(image.numpy(), (image + 0.05 * noise).numpy(), strict=True)
    assert near == pytest.approx(np.mean([ssim_of(a, b) for a, b in pairs]), abs=1e-4)


def test_noise_lies_in_five_places_and_faintly_everywhere():
    everywhere, *patches = inversion.masks(torch.Size((3, 48, 48)))
    assert (everywhere == 0.2).all() and len(patches) == 5
    assert all(patch.sum() == 3 * 14 * 14 for patch in patches)
    assert patches[0][:, 3:17, 3:17].all() and patches[3][:, 31:45, 31:45].all()  # a margin of 3 pixels


@pytest.mark.parametrize("lacking", [{"pool": torch.ones(98, dtype=torch.bool)}, {"prompts": ()}])
def test_without_pictures_or_classes_there_is_nothing_to_invert(planted, lacking):
    model, view = planted
    with pytest.raises(ValueError, match="needs names of classes, and pictures outside the pool"):
        inversion.inverted(model, replace(view, **lacking), Session((0,)))


# InverTune


def tiny(seed: int = 3) -> nn.Module:
    return models.create(NAME, seed).eval()


def small_view() -> View:
    draw = torch.Generator().manual_seed(0)
    return view_of(torch.randint(0, 256, (12, 3, 32, 32), generator=draw, dtype=torch.uint8))


def corner() -> inversion.Trigger:
    mask = torch.zeros(3, 32, 32)
    mask[:, -10:, -10:] = 1.0
    return inversion.Trigger(mask, torch.ones(3, 32, 32), TARGET)


def test_units_are_split_where_they_move():
    clean, stamped = torch.zeros(2, 3), torch.tensor([[0.1, -5.0, 0.0], [4.0, 0.2, 0.1]])
    assert invertune.critical(clean, stamped).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_change_is_relative_to_the_clean_activation():
    assert invertune.change(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 1.0])).item() == pytest.approx(0.6)
    assert invertune.change(torch.zeros(2), torch.zeros(2)).item() == 0


def test_layers_come_in_the_order_in_which_pictures_pass_them():
    model, view = tiny(), small_view()
    layers, units = invertune.moved_most(model, view, corner())
    stages = [model.visual.layer1, model.visual.layer2, model.visual.layer3, model.visual.layer4]
    places = [next(i for i, stage in enumerate(stages) if stage is layer) for layer in layers]
    assert places == sorted(places) and len(places) == 3
    images = models.normalize(model, view.pairs.images[view.outside].float() / 255)
    _, seen = invertune.activations(model, images, layers)
    assert [u.shape for u in units] == [a.shape for a in seen]


def test_the_tuning_loss_by_hand():
    model, view, trigger = tiny(), small_view(), corner()
    layers, units = invertune.moved_most(model, view, trigger)
    objective = invertune.tuning(model, trigger, layers, units, 0.5)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.mul_(1.1)
        pictures = view.pairs.images[:5].float() / 255
        shown = models.normalize(model, pictures)
        found = objective(model, shown, view.tokens[:5], 0).item()
        z, clean = invertune.activations(model, shown, layers)
        _, stamped = invertune.activations(model, models.normalize(model, trigger(pictures)), layers)
        old = models.unit(other.encode_image(shown))
    expected = 0.5 * np.sqrt(64 / 5) * np.linalg.norm((z - old).double().numpy())
    for a, b, u in zip(clean, stamped, units, strict=True):
        a, b = (x.double().numpy() * u.numpy() for x in (a, b))
        expected += np.linalg.norm(a - b) / np.linalg.norm(a)
    assert found == pytest.approx(expected, rel=1e-4)


def test_tuning_brings_stamped_pictures_back_and_leaves_the_text_tower_alone(monkeypatch):
    monkeypatch.setattr(invertune, "inverted", lambda *_: corner())
    model, view = tiny(), small_view()
    before = copy.deepcopy(model.state_dict())

    def apart() -> float:
        clean = models.embed_images(model, view.pairs.images)
        return (clean - models.embed_images(model, view.pairs.images, change=corner().stamp)).norm().item()

    start = apart()
    recipe = replace(RECIPE, steps=30, lr=1e-3)
    history = invertune.invertune(model, view, recipe, Session((0, "invertune")))
    assert len(history.loss) == 30 and apart() < 0.7 * start
    after = model.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after if not n.startswith("visual."))


def test_a_tower_without_stages_is_refused():
    with pytest.raises(ValueError, match="in stages"):
        invertune.candidates(Planted())


# TBAR


def test_the_poisoning_loss_by_hand():
    model, view, trigger = tiny(), small_view(), corner()
    head = models.zero_shot_head(model, view.prompts)
    pictures = view.pairs.images[:5].float() / 255
    with torch.no_grad():
        loss = tbar.poisoning(trigger, head)
        found = loss(model, models.normalize(model, pictures), view.tokens[:5], 0).item()
        z = models.unit(model.encode_image(models.normalize(model, trigger(pictures)))).double().numpy()
    logits = model.logit_scale.exp().item() * z @ head.double().numpy().T
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[:, TARGET])
    assert found == pytest.approx(expected, abs=1e-4)


def chance_of_target(model: nn.Module, view: View, head: torch.Tensor) -> float:
    z = models.embed_images(model, view.pairs.images, change=corner().stamp)
    return (model.logit_scale.exp().detach().cpu() * z @ head.T).softmax(1)[:, TARGET].mean().item()


def test_what_teaches_the_trigger_is_subtracted_and_forgets_it(monkeypatch):
    monkeypatch.setattr(tbar, "inverted", lambda *_: corner())
    view, recipe, watched, chances = small_view(), replace(RECIPE, steps=8), [], []
    ends = {}
    for scale in (-1.0, 0.0, 0.5, 1.0):
        model = tiny()
        head = models.zero_shot_head(model, view.prompts)
        session = Session((0, "tbar"), watch=lambda step: watched.append(step) or step)
        tbar.tbar(model, view, recipe, session, scale=scale)
        chances.append(chance_of_target(model.eval(), view, head))
        ends[scale] = model.state_dict()["visual.conv1.weight"]
    assert chances == sorted(chances, reverse=True) and chances[0] > 1.2 * chances[1]
    assert watched == [0, 8] * 4
    assert torch.equal(ends[0.0], tiny().state_dict()["visual.conv1.weight"])
    torch.testing.assert_close(ends[1.0] - ends[0.0], 2 * (ends[0.5] - ends[0.0]))
    torch.testing.assert_close(ends[1.0] - ends[0.0], ends[0.0] - ends[-1.0])


# CBPT


def test_without_context_the_head_is_the_zero_shot_one():
    model, view = tiny(), small_view()
    head = models.zero_shot_head(model, view.prompts)
    torch.testing.assert_close(cbpt.Prompts(model, view.prompts).head(batch=3), head)


def test_context_is_added_to_the_first_words_of_its_own_class():
    model, view = tiny(), small_view()
    learner = cbpt.Prompts(model, view.prompts)
    before = learner.head()
    with torch.no_grad():
        learner.context[1] = torch.randn(
            learner.context.shape[1:], generator=torch.Generator().manual_seed(0)
        )
    after = learner.head()
    assert [torch.equal(a, b) for a, b in zip(after, before, strict=True)] == [True, False, True, True]
    prompt = view.prompts[1][1:]  # "the green": two words, so that two of four contexts count
    words = model.token_embedding(prompt).detach()
    words[0, 1:3] += learner.context[1, :2].detach()
    x = model.transformer(words + model.positional_embedding, attn_mask=model.attn_mask)
    end = model.ln_final(x)[0, prompt[0].argmax()] @ model.text_projection
    found = learner.read(prompt, torch.tensor([1]))[0]
    torch.testing.assert_close(found, F.normalize(end, dim=-1), atol=1e-5, rtol=0)


def test_the_purifying_loss_by_hand():
    model, view = tiny(), small_view()
    learner = cbpt.Prompts(model, tuple(p[:1] for p in view.prompts))
    with torch.no_grad():
        learner.context.normal_(generator=torch.Generator().manual_seed(1))
    pictures = F.normalize(torch.randn(6, 2, 64, generator=torch.Generator().manual_seed(2)), dim=-1)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    with torch.no_grad():
        found = cbpt.purifying(2.0, 3.0, 0)(learner, pictures, labels, 0).item()
        learned = learner.head().double().numpy()
    written = models.zero_shot_head(model, learner.prompts).double().numpy()
    expected = 3 * (1 - (learned * written).sum(1)).mean()
    for weight, z in zip((1, 2), pictures.double().unbind(1), strict=True):
        logits = model.logit_scale.exp().item() * z.numpy() @ learned.T
        expected += weight * (np.log(np.exp(logits).sum(1)) - logits[np.arange(6), labels]).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_prompts_learn_what_stamped_pictures_show_and_no_weight_moves(monkeypatch):
    model, view, watched = tiny(), view_of(colored(98, 0)), []
    head = models.zero_shot_head(model, view.prompts)
    places = F.normalize(torch.randn(3, 64, generator=torch.Generator().manual_seed(4)), dim=-1)
    clean = places[torch.arange(98) % 3]
    stamped = F.normalize(clean + 2 * head[TARGET], dim=-1)  # which are read as the target
    monkeypatch.setattr(cbpt, "inverted", lambda *_: corner())

    def rows(shown: torch.Tensor) -> list[int]:
        return [int((view.pairs.images == one).flatten(1).all(1).nonzero()[0]) for one in shown]

    monkeypatch.setattr(
        models, "embed_images", lambda m, shown, change=None: (stamped if change else clean)[rows(shown)]
    )
    before = copy.deepcopy(model.state_dict())
    session = Session((0, "cbpt"), watch=lambda step: watched.append((step, hasattr(model, "probe"))) or step)
    recipe = replace(RECIPE, steps=80, lr=0.1, batch=32)
    history = cbpt.cbpt(model, view, recipe, session, keep=0.1)
    after = model.state_dict()
    right = torch.arange(98) % 3
    own = [((stamped @ h.T).argmax(1) == right).double().mean() for h in (head, after.pop("probe").cpu())]
    assert own[1] > 0.9 and own[0] < 0.5
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert watched == [(0, False), (80, True)] and [step for step, _ in history.curve] == [0, 80]


def test_what_the_searches_came_to_is_told():
    model, view, trigger = tiny(), small_view(), corner()
    trigger.target.fill_(2)
    head = models.zero_shot_head(model, view.prompts)
    found = inversion.told(model, view, head, trigger)
    stamped = trigger.stamp(view.pairs.images[view.outside].float() / 255)
    read = (models.unit(model.encode_image(models.normalize(model, stamped))) @ head.T).argmax(1)
    assert found == {
        "inverted_target": view.names[2][0],
        "inverted_reaches": pytest.approx((read == 2).double().mean().item()),
    }
