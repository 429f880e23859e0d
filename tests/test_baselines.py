"""What each baseline optimizes, computed by hand in float64 or on cases whose answer is plain."""

import math
import random
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ubt_utils.baselines.defenses import (
    cleanclip,
    negation,
    par,
    perturb,
    pixel_prompt,
    supervised,
)
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
CAPTIONS = ("a drawing of clock", "a picture of red fox", "a castle", "a ship", "a fox", "nothing to see")
NAMES = (("clock",), ("fox", "red fox"), ("castle",), ("ship",))
RECIPE = Recipe(steps=3, lr=1e-3, batch=4, schedule="constant", freeze_norm=True)


def model_of(seed: int):
    return models.create(NAME, seed).eval()


@pytest.fixture
def view() -> View:
    return defender.view_of(
        defender.pictures(6),
        CAPTIONS,
        pool=torch.tensor([True, False, False, False, False, False]),
        suspicious=torch.tensor([0]),
        compromised=models.tokenize(NAME, ["clock"])[0, 1:2],
        suffers=torch.tensor([1.0] + [-torch.inf] * 5),
        anchors=models.tokenize(NAME, ["clock"])[0, 1:2],
        model=lambda name: model_of({"public": 5, "overfit-0": 6, "overfit-1": 7}[name]),
        score=lambda name: torch.arange(6.0),
        names=NAMES,
        prompts=tuple(models.tokenize(NAME, [f"a {name}" for name in names]) for names in NAMES),
    )


def cross_entropy(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    low = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(low).sum(1)) - low[np.arange(len(label)), label]


def unit(model, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, images.float() / 255)).double().numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def unit_text(model, tokens: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        t = model.encode_text(tokens).double().numpy()
    return t / np.linalg.norm(t, axis=1, keepdims=True)


# CleanCLIP


def test_two_views_of_one_modality_are_kept_apart_by_cross_entropy():
    draw = torch.Generator().manual_seed(1)
    one, other = (F.normalize(torch.randn(5, 8, generator=draw), dim=-1) for _ in range(2))
    found = cleanclip.within(one, other, torch.tensor(7.0)).item()
    logits = 7.0 * one.double().numpy() @ other.double().numpy().T
    assert found == pytest.approx(cross_entropy(logits, np.arange(5)).mean(), abs=1e-5)


def test_identical_and_orthogonal_views_cost_what_one_computes_on_paper():
    views = torch.eye(4)
    expected = math.log(1 + 3 * math.exp(-2.0))  # own view at cosine 1, three others at 0, scale 2
    assert cleanclip.within(views, views, torch.tensor(2.0)).item() == pytest.approx(expected, abs=1e-6)


def test_cleanclip_adds_half_of_both_terms_to_the_pair_loss(view, monkeypatch):
    seen = {}
    monkeypatch.setattr(cleanclip, "augment", lambda images, draw: images.flip(-1))
    monkeypatch.setattr(cleanclip, "eda", lambda tokens, draw: tokens.roll(1, 0))
    monkeypatch.setattr(
        cleanclip, "train_outside", lambda m, v, r, s, objective, label: seen.update(f=objective)
    )
    model = model_of(0)
    cleanclip.cleanclip(model, view, RECIPE, Session((0,)), weight=3.0)
    images, tokens = view.pairs.images[1:], view.tokens[1:]
    with torch.no_grad():
        batch = models.normalize(model, images.float() / 255)
        pair = contrastive(model, batch, tokens, 0).item()
        found = seen["f"](model, batch, tokens, 0).item()
    scale, own = model.logit_scale.exp().item(), np.arange(5)
    z, z2 = unit(model, images), unit(model, images.flip(-1))
    t, t2 = unit_text(model, tokens), unit_text(model, tokens.roll(1, 0))
    alone = [cross_entropy(scale * a @ b.T, own).mean() for a, b in ((z, z2), (t, t2))]
    assert found - pair == pytest.approx(3.0 * sum(alone) / 2, abs=1e-4)


def inner_words(row: torch.Tensor) -> list[int]:
    return row[1 : int(row.argmax())].tolist()


def test_eda_changes_one_place_of_each_caption_and_keeps_its_frame(view):
    tokens = view.tokens.repeat(40, 1)
    found = cleanclip.eda(tokens, random.Random(0))
    known = {word for row in tokens for word in inner_words(row)}
    lengths = set()
    for old, new in zip(tokens, found, strict=True):
        before, after = inner_words(old), inner_words(new)
        assert new[0] == old[0] and new.max() == old.max() and set(after) <= known
        assert not new[len(after) + 2 :].any()
        lengths.add(len(after) - len(before))
        if len(after) == len(before):
            assert sum(a != b for a, b in zip(before, after, strict=True)) <= 2
    assert lengths == {-1, 0, 1}


def test_eda_leaves_captions_of_one_word_alone_and_fits_full_ones():
    single = models.tokenize(NAME, ["clock", "fox"])
    assert torch.equal(cleanclip.eda(single, random.Random(0)), single)
    full = models.tokenize(NAME, ["a b c d e f g h i j k l m n o p q r s t"])
    for seed in range(30):
        assert cleanclip.eda(full, random.Random(seed)).shape == full.shape


# PAR


def test_par_measures_the_mean_squared_way_and_stops_at_its_threshold():
    now, before = torch.eye(3), torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, -1]])
    assert par.moved(now, before, 2.15).item() == pytest.approx((2 + 0 + 4) / 3)
    assert par.moved(now, before, 1.99).item() == 0


def test_par_takes_half_of_both_ways_off_the_pair_loss(view, monkeypatch):
    seen = {}
    monkeypatch.setattr(par, "disturb", lambda images, draw: images)
    monkeypatch.setattr(par, "train_outside", lambda *_: seen.update(f=_[4]))
    par.par(model_of(0), view, RECIPE, Session((0,)))
    other, images, tokens = model_of(1), view.pairs.images[1:], view.tokens[1:]
    with torch.no_grad():
        batch = models.normalize(other, images.float() / 255)
        away = contrastive(other, batch, tokens, 0).item() - seen["f"](other, batch, tokens, 0).item()
    z, t = (f(other, x) - f(model_of(0), x) for f, x in ((unit, images), (unit_text, tokens)))
    expected = [v for v in ((z**2).sum(1).mean(), (t**2).sum(1).mean()) if v <= 2.15]
    assert expected and away == pytest.approx(sum(expected) / 2, abs=1e-4)
    seen["f"](other, batch, tokens, 0).backward()
    assert other.logit_scale.grad is None  # PAR holds the temperature
    contrastive(other, batch, tokens, 0).backward()
    assert other.logit_scale.grad != 0


def test_disturbing_hits_about_half_of_the_pictures_each_way_and_stays_in_range():
    images = torch.full((400, 3, 20, 20), 0.25)
    found = par.disturb(images, torch.Generator().manual_seed(0))
    erased = (found == 0.5).all(1).flatten(1).any(1).double().mean().item()
    untouched = (found == images).flatten(1).all(1).double().mean().item()
    assert 0.4 < erased < 0.6 and 0.18 < untouched < 0.32
    assert found.min() >= 0 and found.max() <= 1


# Classes from captions


def test_a_caption_is_labelled_by_the_longest_name_in_it_outside_the_pool(view):
    index, label = supervised.labelled(view)
    assert dict(zip(index.tolist(), label.tolist(), strict=True)) == {1: 1, 2: 2, 3: 3, 4: 1}


def test_names_count_as_whole_words_only_and_none_is_an_error(view):
    captions = ("clocks", "foxes", "castles", "shipping", "firefox", "clockwise")
    other = replace(view, pairs=view.pairs.with_captions(captions))
    with pytest.raises(ValueError, match="no caption of D_safe holds the name of a class"):
        supervised.labelled(other)


@pytest.mark.parametrize(("name", "tower"), [("supervised", True), ("linear_probe", False)])
def test_who_learns_classes_moves_what_it_says(view, name, tower):
    model, before = model_of(3), model_of(3).state_dict()
    getattr(supervised, name)(model, view, RECIPE, Session((0,)))
    after = model.state_dict()
    assert not torch.equal(after["probe"], models.zero_shot_head(model_of(3), view.prompts))
    assert torch.equal(after["visual.conv1.weight"], before["visual.conv1.weight"]) != tower
    assert torch.equal(after["token_embedding.weight"], before["token_embedding.weight"])


def test_the_classifiers_loss_by_hand(view):
    model, label = model_of(3), torch.tensor([0, 2, 1])
    head = models.zero_shot_head(model, view.prompts)
    models.add_probe(model, 3 * head)  # its length must not matter
    with torch.no_grad():
        batch = models.normalize(model, view.pairs.images[:3].float() / 255)
        found = supervised._classify(model, batch, label, 0).item()
    logits = model.logit_scale.exp().item() * unit(model, view.pairs.images[:3]) @ head.double().numpy().T
    assert found == pytest.approx(cross_entropy(logits, label.numpy()).mean(), abs=1e-4)


# Pixel prompt


def test_nothing_moves_but_the_pixel_prompt(view):
    model, before = model_of(3), model_of(3).state_dict()
    pixel_prompt.pixel_prompt(model, view, RECIPE, Session((0,)))
    after = model.state_dict()
    assert after.pop("visual.prompt").abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in after.items() if name != "logit_scale")


def test_a_stronger_repulsion_drives_the_features_further_away(view):
    recipe = Recipe(steps=25, lr=1e-2, batch=4, schedule="constant", freeze_norm=True)
    before, away = unit(model_of(3), view.pairs.images), []
    for repel in (0.0, 50.0):
        model = model_of(3)
        pixel_prompt.pixel_prompt(model, view, recipe, Session((0,)), repel=repel)
        away.append(1 - (unit(model.eval(), view.pairs.images) * before).sum(1).mean())
    assert away[1] > 1.1 * away[0] > 0


@pytest.mark.parametrize("add", ["probe", "prompt"])
def test_what_a_defense_adds_to_a_model_is_saved_and_read_with_it(view, tmp_path, add):
    model = model_of(3)
    if add == "probe":
        models.add_probe(model, torch.randn(4, 32))
    else:
        models.add_prompt(model, (3, 32, 32))
        with torch.no_grad():
            model.visual.prompt.add_(0.5)
    models.save(model, NAME, tmp_path / "m.safetensors")
    again = models.load(NAME, tmp_path / "m.safetensors")
    name = {"probe": "probe", "prompt": "visual.prompt"}[add]
    assert torch.equal(again.state_dict()[name], model.state_dict()[name])
    one, other = (models.embed_images(m, view.pairs.images) for m in (model, again))
    assert torch.equal(one, other)
    assert torch.equal(one, models.embed_images(model_of(3), view.pairs.images)) == (add == "probe")


# Weights


def test_negation_goes_from_the_overfit_models_to_the_other_side(view):
    model, watched = model_of(5), []
    history = negation.negate(model, view, RECIPE, Session((0,), watch=lambda s: watched.append(s) or s), 0.5)
    start, one, two = (model_of(s).state_dict()["visual.conv1.weight"] for s in (5, 6, 7))
    expected = start - 0.5 * ((one + two) / 2 - start)
    torch.testing.assert_close(model.state_dict()["visual.conv1.weight"], expected)
    assert watched == [0, 0] and history.loss == [] and history.pairs_seen == 0  # no step is paid for


def test_norms_are_read_anew_on_pictures_of_d_safe(view):
    model = model_of(5)
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.running_mean.fill_(9.0)
    seen = []
    hook = norm.register_forward_hook(lambda layer, given, out: seen.append(given[0]))
    negation.renew_norms(model, view)
    hook.remove()
    read = torch.cat(seen)
    assert len(read) == len(view.outside) and norm.momentum == 0.1 and not model.training
    torch.testing.assert_close(norm.running_mean, read.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    plain = torch.nn.Linear(2, 2)
    negation.renew_norms(plain, view)  # nothing to read


def test_shrinking_by_nothing_changes_nothing_and_norms_always_stay():
    model = model_of(0)
    perturb.shrink(model, 1.0, 0)
    assert all(torch.equal(v, model_of(0).state_dict()[n]) for n, v in model.state_dict().items())
    perturb.shrink(model, 0.6, 0)
    before, after = model_of(0).state_dict(), model.state_dict()
    assert torch.equal(after["visual.bn1.weight"], before["visual.bn1.weight"])
    weight, noise = (
        before["visual.conv1.weight"],
        after["visual.conv1.weight"] - 0.6 * before["visual.conv1.weight"],
    )
    assert noise.std().item() == pytest.approx(0.4 * weight.std().item(), rel=0.15)


def test_what_is_locked_is_not_shrunk():
    model = model_of(0)
    model.visual.conv1.weight.requires_grad_(False)
    perturb.shrink(model, 0.5, 0)
    assert torch.equal(model.visual.conv1.weight, model_of(0).visual.conv1.weight)
