"""FT-SAM: the perturbation and the gradient there, by hand in float64, and that it leaves a sharp minimum."""

import copy
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch

from ubt_utils.baselines import defenses
from ubt_utils.baselines.defenses import ft_sam
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
CAPTIONS = ("a drawing of clock", "a red fox", "a castle", "a ship", "a fox", "nothing to see")
RHO = 3.0
RECIPE = Recipe(steps=2, lr=1e-3, batch=4, schedule="constant")


@pytest.fixture
def view() -> View:
    pool = torch.tensor([True] + [False] * 5)
    return defender.view_of(
        defender.pictures(6), CAPTIONS, pool=pool, model=lambda name: models.create(NAME, 5)
    )


def quadratic() -> tuple[dict[str, torch.nn.Parameter], np.ndarray]:
    """Two weights, of three and of two numbers, and the matrix A of the loss ½ θᵀAθ, in float64."""
    draw = np.random.default_rng(0)
    root = draw.normal(size=(5, 5))
    theta = torch.from_numpy(draw.normal(size=5))
    parts = {"first": torch.nn.Parameter(theta[:3]), "second": torch.nn.Parameter(theta[3:].view(2, 1))}
    return parts, root @ root.T


def loss_of(parts, matrix: np.ndarray) -> torch.Tensor:
    theta = torch.cat([part.flatten() for part in parts.values()])
    return theta @ torch.from_numpy(matrix) @ theta / 2


def flat(parts) -> np.ndarray:
    return torch.cat([part.detach().flatten() for part in parts]).numpy()


def test_the_step_is_that_of_adaptive_sam_on_a_quadratic():
    parts, matrix = quadratic()
    up = ft_sam.slope(loss_of(parts, matrix), parts.values())
    moved = ft_sam.climb(parts, up, RHO)
    loss_of(moved, matrix).backward()
    theta = flat(parts.values())
    g = matrix @ theta
    there = theta + RHO * theta**2 * g / np.sqrt(((theta * g) ** 2).sum())
    np.testing.assert_allclose(flat(up), g, rtol=1e-12)
    np.testing.assert_allclose(flat(moved.values()), there, rtol=1e-12)
    assert np.linalg.norm((there - theta) / theta) == pytest.approx(RHO)
    found = flat(part.grad for part in parts.values())
    np.testing.assert_allclose(found, matrix @ there, rtol=1e-12)  # and nothing of the step's own slope


def test_the_first_gradient_leaves_no_trace_and_a_weight_without_one_stays():
    parts, matrix = quadratic()
    idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    parts["first"].grad = torch.ones(3, dtype=torch.float64)  # of the step before
    up = ft_sam.slope(loss_of(parts, matrix), [*parts.values(), idle])
    np.testing.assert_allclose(flat(up[:2]), matrix @ flat(parts.values()), rtol=1e-12)
    assert not up[2].any() and all(part.grad is None for part in [*parts.values(), idle])
    assert torch.equal(ft_sam.climb({"idle": idle}, up[2:], RHO)["idle"], idle)


@pytest.mark.parametrize(("rho", "left"), [(0.0, False), (0.5, True)])
def test_a_sharp_minimum_is_left(rho, left):
    """(θ − 3)² / 8, with a narrow hole of depth 0.8 at 1: plain descent stays in the hole."""
    theta = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

    def loss(weights):
        at = weights["theta"]
        return ((at - 3) ** 2 / 8 - 0.8 * torch.exp(-(((at - 1) / 0.1) ** 2))).sum()

    optimizer = torch.optim.SGD([theta], 0.01)
    for _ in range(300):
        up = ft_sam.slope(loss({"theta": theta}), [theta])
        optimizer.zero_grad()
        loss(ft_sam.climb({"theta": theta}, up, rho)).backward()
        optimizer.step()
    assert abs(theta.item() - 1) > 0.8 if left else abs(theta.item() - 1) < 0.05


def objective_of(view: View, monkeypatch, rho: float):
    seen = {}
    monkeypatch.setattr(ft_sam, "train_outside", lambda *given: seen.update(f=given[4]))
    ft_sam.ft_sam(models.create(NAME, 0), view, RECIPE, Session((0,)), rho)
    return seen["f"]


def batch_of(model, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    return models.normalize(model, view.pairs.images[1:].float() / 255), view.tokens[1:]


@pytest.mark.parametrize("training", [False, True])
def test_all_weights_get_the_gradient_where_the_image_tower_is_perturbed(view, monkeypatch, training):
    model = models.create(NAME, 3).train(training)
    batch, before = batch_of(model, view), copy.deepcopy(model)
    objective_of(view, monkeypatch, RHO)(model, *batch, 0).backward()
    other = copy.deepcopy(before)
    contrastive(other, *batch, 0).backward()
    own = [p for name, p in other.named_parameters() if name.startswith("visual.")]
    size = torch.stack([(p * p.grad).square().sum() for p in own]).sum().sqrt()
    with torch.no_grad():
        for p in own:
            p.add_(RHO * p.square() * p.grad / size)
    other.zero_grad()
    contrastive(other, *batch, 0).backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-4, rtol=1e-3, msg=name)
        assert torch.equal(p, before.get_parameter(name))
    with torch.no_grad():
        contrastive(before, *batch, 0)  # running statistics move once a step, where they move
    assert all(torch.equal(b, c) for b, c in zip(model.buffers(), before.buffers(), strict=True))


def test_no_perturbation_is_fine_tuning_and_locked_weights_stay(view, monkeypatch):
    model = models.create(NAME, 3).eval()
    model.visual.conv1.weight.requires_grad_(False)
    batch, other = batch_of(model, view), copy.deepcopy(model)
    objective_of(view, monkeypatch, 0.0)(model, *batch, 0).backward()
    contrastive(other, *batch, 0).backward()
    assert model.visual.conv1.weight.grad is None
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert not p.requires_grad or torch.allclose(p.grad, q.grad, atol=1e-5)


def test_it_trains_on_d_safe_alone_and_follows_the_source(view):
    trained = []
    for pixel in (0, 255):
        view.pairs.images[0] = pixel  # in the pool
        model = models.create(NAME, 0)
        history = ft_sam.ft_sam(model, view, RECIPE, Session((0, "ft_sam")))
        assert len(history.loss) == 2 and history.pairs_seen == 8
        trained.append(model.state_dict()["visual.conv1.weight"].clone())
    assert torch.equal(*trained)
    found = defenses.get("ft_sam")
    assert found.options == {"rho": 2.0} and found.cost == 2.0 and found.sees == ("D_safe",)
    planned = replace(RECIPE, **found.recipe)
    assert planned.schedule == "cosine" and not planned.freeze_norm
