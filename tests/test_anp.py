"""ANP: pushes and masks by hand in float64, and a planted channel that must be found and cut."""

import copy
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch
from torch import nn

from ubt_utils.baselines import defenses
from ubt_utils.baselines.defenses import anp
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.ubt.defense import Session, View

RECIPE = Recipe(steps=40, lr=0.05, batch=32, weight_decay=0.0, schedule="constant")
TARGET = 1


class Planted(nn.Module):
    """Reads a picture's mean color. Red is concept 0, green is concept 1, and blue, which says nothing of a
    picture's concept, leads to concept 1 twice as strongly: the trigger's channel. A token is its concept."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        with torch.no_grad():
            self.visual[3].weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]]))
            self.visual[3].bias.zero_()

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.eye(2)[tokens[:, 0]]


def pictures(n: int, blue: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 3, 4, 4) uint8 in red or green, blue by chance or as told, and the concept of each (n,)."""
    draw = torch.Generator().manual_seed(n)
    color = torch.randint(0, 60, (n, 3), generator=draw)
    concept = torch.arange(n) % 2
    color[torch.arange(n), concept] += 150
    color[:, 2] = torch.randint(0, 256, (n,), generator=draw) if blue is None else blue
    return color.to(torch.uint8)[:, :, None, None].expand(n, 3, 4, 4).contiguous(), concept


def answers(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(n,) the concept that each picture is closest to."""
    return models.embed_images(model, images).argmax(1)


@pytest.fixture
def view() -> View:
    images, concept = pictures(64)
    captions = tuple(f"concept {c}" for c in concept.tolist())
    return defender.view_of(images, captions, tokens=concept[:, None], model=lambda name: Planted())


@pytest.fixture
def model(view) -> Planted:
    """Its running statistics are those of the clean pictures."""
    planted = Planted()
    planted.visual[1].momentum = 1.0
    with torch.no_grad():
        planted.visual(models.normalize(planted, view.pairs.images.float() / 255))
    return planted.eval()


def layers_of(seed: int = 0) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    found = {"a": nn.BatchNorm2d(2).double(), "b.c": nn.BatchNorm1d(3).double()}
    for layer in found.values():
        nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    return found


def test_masks_weaken_weights_and_pushes_reach_biases_too():
    layers, draw = layers_of(), np.random.default_rng(0)
    mask, push = draw.random(5), draw.normal(size=(2, 5))
    weight = np.concatenate([layer.weight.detach().numpy() for layer in layers.values()])
    bias = np.concatenate([layer.bias.detach().numpy() for layer in layers.values()])
    for by in (None, push):
        found = anp.scaled(layers, torch.from_numpy(mask), None if by is None else torch.from_numpy(by))
        more = np.zeros((2, 5)) if by is None else by
        assert list(found) == ["a.weight", "a.bias", "b.c.weight", "b.c.bias"]
        weights = np.concatenate([found["a.weight"], found["b.c.weight"]])
        np.testing.assert_allclose(weights, weight * (mask + more[0]), rtol=1e-12)
        biases = np.concatenate([found["a.bias"], found["b.c.bias"]])
        np.testing.assert_allclose(biases, bias * (1 + more[1]), rtol=1e-12)


def test_the_push_is_one_step_along_the_sign():
    draw = np.random.default_rng(1)
    matrix, start = draw.normal(size=(6, 6)), draw.uniform(-0.4, 0.4, size=(2, 3))

    def loss(push: torch.Tensor) -> torch.Tensor:
        return push.flatten() @ torch.from_numpy(matrix) @ push.flatten()

    found = anp.worst(loss, torch.from_numpy(start), 0.4).numpy()
    slope = ((matrix + matrix.T) @ start.flatten()).reshape(2, 3)
    np.testing.assert_allclose(found, start + 0.4 * np.sign(slope), rtol=1e-12)


def loss_by_hand(model: Planted, images: np.ndarray, tokens: np.ndarray, mask, push) -> float:
    """CLIP's loss of pushed channels on running statistics, in float64."""
    norm, head = model.visual[1], model.visual[3]
    of_norm = norm.weight, norm.bias, norm.running_mean, norm.running_var
    weight, bias, mean, var = (value.detach().double().numpy() for value in of_norm)
    x = (images.mean((2, 3)) - mean) / np.sqrt(var + norm.eps)
    x = x * weight * (mask + push[0]) + bias * (1 + push[1])
    z = x @ head.weight.detach().double().numpy().T
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    logits = np.exp(model.logit_scale.item()) * z @ np.eye(2)[tokens].T
    both = [part - np.log(np.exp(part).sum(1, keepdims=True)) for part in (logits, logits.T)]
    return -np.mean([np.diag(part).mean() for part in both])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_loss_is_the_mean_of_both_and_reaches_the_masks_alone(model, view, monkeypatch, alpha):
    push = np.array([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]])
    monkeypatch.setattr(anp, "worst", lambda *_: torch.tensor(push).float())
    nn.init.constant_(model.visual[1].bias, 0.3)
    model.requires_grad_(False)
    mask = nn.Parameter(torch.tensor([0.5, 1.4, -0.3]))  # beyond their ends, as after a step
    model.register_parameter(anp.MASK, mask)
    images = models.normalize(model, view.pairs.images[:8].float() / 255)
    objective = anp.masking(anp_layers(model), 0.4, alpha, 0)
    found = objective(model, images, view.tokens[:8], 0)
    given = images.double().numpy(), view.tokens[:8, 0].numpy(), np.array([0.5, 1.0, 0.0])
    expected = [loss_by_hand(model, *given, by) for by in (np.zeros((2, 3)), push)]
    assert found.item() == pytest.approx(alpha * expected[0] + (1 - alpha) * expected[1], abs=1e-5)
    found.backward()
    assert mask.grad.abs().sum() > 0 and mask.tolist() == pytest.approx([0.5, 1.0, 0.0])


def anp_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in model.visual.named_modules() if isinstance(part, nn.BatchNorm2d)}


@pytest.mark.parametrize("freeze_norm", [False, True])
def test_the_planted_channel_is_found_and_cut(model, view, freeze_norm):
    red = pictures(10)[0][::2]
    triggered = pictures(10, blue=255)[0][::2]
    old, before = copy.deepcopy(model.state_dict()), answers(model, triggered)
    curve = []
    session = Session((0, "anp"), watch=lambda step: curve.append((step, model.visual[1].weight.tolist())))
    recipe = replace(RECIPE, freeze_norm=freeze_norm)
    history = anp.anp(model, view, recipe, session, portion=1 / 3)
    assert before.eq(TARGET).all() and answers(model, triggered).eq(0).all()
    assert answers(model, red).eq(0).all() and len(history.loss) == RECIPE.steps
    assert curve == [(0, [1.0, 1.0, 1.0]), (RECIPE.steps, [1.0, 1.0, 0.0])]
    new = model.state_dict()  # no mask is left, and nothing else was touched
    assert set(new) == set(old)
    assert [name for name in old if not torch.equal(old[name], new[name])] == ["visual.1.weight"]


def test_the_smallest_masks_are_cut_over_all_layers_and_biases_stay():
    layers = layers_of()
    old = {name: copy.deepcopy(layer.state_dict()) for name, layer in layers.items()}
    anp.prune(layers, torch.tensor([0.9, 0.2, 0.5, 0.1, 1.0]).double(), 0.25)  # two of five, rounded up
    zero = {name: (layer.weight == 0).tolist() for name, layer in layers.items()}
    assert zero == {"a": [False, True], "b.c": [False, True, False]}
    for name, layer in layers.items():
        assert torch.equal(layer.bias, old[name]["bias"])
        assert torch.equal(layer.weight[layer.weight != 0], old[name]["weight"][layer.weight != 0])


def test_a_tower_without_batch_norm_is_refused_and_locked_norms_stay():
    vit = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))
    with pytest.raises(
        ValueError, match="ANP masks the channels of batch norms, and this image tower has no"
    ):
        anp.norms(vit)
    tower = models.create("ubt-tiny", 0).visual
    every = anp.norms(tower)
    assert set(every) == {n for n, part in tower.named_modules() if isinstance(part, nn.BatchNorm2d)}
    tower.bn1.requires_grad_(False)
    assert set(every) - set(anp.norms(tower)) == {"bn1"}


def test_a_portion_that_is_none_is_refused(model, view):
    with pytest.raises(ValueError, match=r"portion must be above 0 and at most 1, got 1\.5"):
        anp.anp(model, view, RECIPE, Session((0,)), portion=1.5)


def test_the_registry_has_the_sources_settings():
    found = defenses.get("anp")
    assert found.options["eps"] == 0.4 and found.options["alpha"] == 0.2 and found.sees == ("D_safe",)
    assert replace(RECIPE, **found.recipe).weight_decay == 0  # it would pull at every mask
