"""The pool, its halves, held-out reading, and the detectors by name."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils import detectors, models
from ubt_utils.data.pairs import Pairs
from ubt_utils.detectors.overfit import halves_of, overfit_half, pool_of, similarity
from ubt_utils.training import Recipe

NAME = "ubt-tiny"


def small_set(n: int = 24) -> tuple[Pairs, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=draw, dtype=torch.uint8)
    captions = tuple(f"number {i}" for i in range(n))
    return Pairs(images, captions), models.tokenize(NAME, captions)


# The pool


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=60), st.floats(0.3, 0.9))
def test_the_pool_is_the_least_similar_fraction(values, fraction):
    similar = torch.tensor(values)
    pool = pool_of(similar, fraction)
    assert pool.sum() == round(fraction * len(values))
    assert similar[pool].max() <= similar[~pool].min()


def test_equal_similarities_enter_the_pool_by_position():
    assert pool_of(torch.zeros(8), 0.5).tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("fraction", [0, 0.1, 1, 1.5, -0.2])
def test_a_pool_of_nearly_nothing_or_everything_is_refused(fraction):
    with pytest.raises(ValueError, match="is empty or is everything"):
        pool_of(torch.rand(10), fraction)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 99))
def test_halves_split_the_pool_and_nothing_else(members, seed):
    pool = torch.tensor(members, dtype=torch.bool)
    half = halves_of(pool, seed)
    assert ((half == -1) == ~pool).all()
    sizes = [int((half == side).sum()) for side in (0, 1)]
    assert sum(sizes) == sum(members) and 0 <= sizes[1] - sizes[0] <= 1


def test_halves_are_seeded():
    pool = torch.ones(40, dtype=torch.bool)
    assert torch.equal(halves_of(pool, 0), halves_of(pool, 0))
    assert not torch.equal(halves_of(pool, 0), halves_of(pool, 1))


# Overfitting


def test_similarity_is_the_cosine_of_each_picture_and_its_own_caption():
    model, (pairs, tokens) = models.create(NAME, 0).eval(), small_set(5)
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, pairs.images / 255)).double().numpy()
        t = model.encode_text(tokens).double().numpy()
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(z, t, strict=True)]
    np.testing.assert_allclose(similarity(model, pairs.images, tokens).numpy(), expected, atol=1e-5)


RECIPE = Recipe(steps=6, lr=2e-3, batch=4, one_cycle=False, freeze_norm=True)


def overfitted(pairs: Pairs, tokens: torch.Tensor, half: torch.Tensor, side: int, reads: int = 3):
    model = models.create(NAME, 0)
    return model, overfit_half(model, pairs, tokens, half, side, RECIPE, reads, 0)


def test_the_path_is_read_from_before_the_first_step_to_after_the_last():
    pairs, tokens = small_set()
    half = torch.arange(24) % 3 - 1
    model, history = overfitted(pairs, tokens, half, 1)
    assert [step for step, _ in history.curve] == [0, 2, 4, 6]
    held = half == 1
    start = similarity(models.create(NAME, 0), pairs.images[held], tokens[held])
    torch.testing.assert_close(history.curve[0][1], start)
    torch.testing.assert_close(history.curve[-1][1], similarity(model, pairs.images[held], tokens[held]))


def test_a_model_never_trains_on_the_half_that_it_reads():
    pairs, tokens = small_set()
    half = torch.arange(24) % 3 - 1
    changed = pairs.images.clone()
    changed[half != 0] = 255 - changed[half != 0]  # all but what side 1 trains on
    a, _ = overfitted(pairs, tokens, half, side=1)
    b, _ = overfitted(Pairs(changed, pairs.captions), tokens, half, side=1)
    c, _ = overfitted(pairs, tokens, half, side=0)
    weight = "visual.conv1.weight"
    assert torch.equal(a.state_dict()[weight], b.state_dict()[weight])
    assert not torch.equal(a.state_dict()[weight], c.state_dict()[weight])


# By name


@pytest.fixture
def scores() -> detectors.Scores:
    s0, sb = torch.tensor([0.9, 0.1, 0.2, 0.8]), torch.tensor([0.9, 0.7, 0.1, 0.6])
    pool = torch.tensor([False, True, True, False])
    return detectors.Scores(s0, sb, torch.tensor([-torch.inf, 0.8, 0.3, -torch.inf]), pool)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clipscore", [-0.9, -0.1, -0.2, -0.8]),
        ("similarity", [0.9, 0.7, 0.1, 0.6]),
        ("gain", [0.0, 0.6, -0.1, -0.2]),
        ("overfit", [-torch.inf, 0.8, 0.3, -torch.inf]),
        ("overfit_gain", [-torch.inf, 0.7, 0.1, -torch.inf]),
    ],
)
def test_detector_by_hand(scores, name, expected):
    torch.testing.assert_close(detectors.DETECTORS[name](scores), torch.tensor(expected))


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_every_detector_scores_every_pair_and_repeats(scores, name):
    detector = detectors.DETECTORS[name]
    first = detector(scores)
    assert first.shape == (4,) and not first.isnan().any() and torch.equal(detector(scores), first)
    assert inspect.getdoc(detector)


def test_chance_finds_nothing():
    n = 4000
    zero = torch.zeros(n)
    order = detectors.random(detectors.Scores(zero, zero, zero, zero.bool())).argsort()
    assert abs(order[: n // 2].double().mean() - n / 2) < 100  # 4 standard errors
