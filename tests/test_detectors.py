"""The pool, its halves, held-out reading, and the detectors by name."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.baselines import detectors
from ubt_utils.baselines.detectors.base import Scores
from ubt_utils.baselines.detectors.density import in_batches
from ubt_utils.baselines.detectors.losses import pair_loss
from ubt_utils.baselines.detectors.similarities import random
from ubt_utils.clip import models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.scoring import similarity
from ubt_utils.data.pairs import Pairs
from ubt_utils.kernels import neighbors
from ubt_utils.ubt.overfit import halves_of, overfit_half
from ubt_utils.ubt.pool import pool_of, suspicion, weakest

NAME = "ubt-tiny"


def small_set(n: int = 24) -> tuple[Pairs, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=draw, dtype=torch.uint8)
    captions = tuple(f"number {i}" for i in range(n))
    return Pairs(images, captions), models.tokenize(NAME, captions)


# The pool


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=60), st.floats(0.3, 0.9))
def test_the_pool_is_the_most_suspicious_fraction(values, fraction):
    suffers = torch.tensor(values)
    pool = pool_of(suffers, fraction)
    assert pool.sum() == round(fraction * len(values))
    assert suffers[pool].min() >= suffers[~pool].max()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([], [1.5, -0.5, -0.5, 1.5]),  # nothing was found: the larger of both
        ([1, 0, 1], [1.5, -0.5, -0.5, 1.5]),
        ([0], [-0.5, -0.5, -0.5, 1.5]),
        ([1], [1.5, -0.5, -0.5, -0.5]),
    ],
)
def test_suspicion_is_the_largest_drop_in_standard_deviations(chosen, expected):
    drops = torch.tensor([[0.0, 0, 0, 2], [20, 0, 0, 0]])  # means 0.5 and 5, deviations 1 and 10
    torch.testing.assert_close(suspicion(drops, chosen), torch.tensor(expected))


def test_of_whom_no_drop_is_known_suffers_less_than_all_others():
    drops = torch.tensor([[0.0, 0, 0, 2, -torch.inf], [20, 0, 0, 0, -torch.inf]])
    torch.testing.assert_close(suspicion(drops, []), torch.tensor([1.5, -0.5, -0.5, 1.5, -1.5]))


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 3), (1.0, 6), (0.01, 2)])
def test_the_weakest_are_those_of_the_least_similarity(fraction, count):
    similar = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.2, 0.0])
    assert weakest(similar, fraction).nonzero().flatten().tolist() == sorted([5, 1, 2, 3, 4, 0][:count])


def test_a_disturbance_that_takes_as_much_of_all_pairs_says_nothing():
    assert suspicion(torch.full((1, 5), 0.25), []).tolist() == [0] * 5


def test_equal_suspicions_enter_the_pool_by_position():
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


RECIPE = Recipe(steps=6, lr=2e-3, batch=4, schedule="constant", freeze_norm=True)


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
def scores() -> Scores:
    s0, sb = torch.tensor([0.9, 0.1, 0.2, 0.8]), torch.tensor([0.9, 0.7, 0.1, 0.6])
    pool = torch.tensor([False, True, True, False])
    drop = torch.tensor([-0.5, 2.5, 1.5, 0.5])
    return Scores(s0, sb, torch.tensor([-torch.inf, 0.8, 0.3, -torch.inf]), drop, pool)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clipscore", [-0.9, -0.1, -0.2, -0.8]),
        ("similarity", [0.9, 0.7, 0.1, 0.6]),
        ("gain", [0.0, 0.6, -0.1, -0.2]),
        ("drop", [-0.5, 2.5, 1.5, 0.5]),
        ("overfit", [-torch.inf, 0.8, 0.3, -torch.inf]),
        ("overfit_gain", [-torch.inf, 0.7, 0.1, -torch.inf]),
    ],
)
def test_detector_by_hand(scores, name, expected):
    torch.testing.assert_close(detectors.DETECTORS[name](scores), torch.tensor(expected))


@pytest.mark.parametrize("name", detectors.FROM_SIMILARITIES)
def test_every_detector_scores_every_pair_and_repeats(scores, name):
    detector = detectors.DETECTORS[name]
    first = detector(scores)
    assert first.shape == (4,) and not first.isnan().any() and torch.equal(detector(scores), first)
    assert inspect.getdoc(detector)


def test_chance_finds_nothing():
    n = 4000
    zero = torch.zeros(n)
    order = random(Scores(zero, zero, zero, zero, zero.bool())).argsort()
    assert abs(order[: n // 2].double().mean() - n / 2) < 100  # 4 standard errors


# From embeddings


@pytest.fixture
def embedded() -> Scores:
    """200 pairs around eight directions, each caption at its picture; ten far from all others."""
    draw = torch.Generator().manual_seed(3)
    centers = torch.randn(8, 16, generator=draw)
    z = centers[torch.arange(200) % 8] + 0.2 * torch.randn(200, 16, generator=draw)
    z[:10] = 3 * torch.randn(10, 16, generator=draw)
    z = torch.nn.functional.normalize(z, dim=-1)
    t = torch.nn.functional.normalize(z + 0.1 * torch.randn(200, 16, generator=draw), dim=-1)
    t[20:30] = t[20:30].roll(3, 0)  # ten that do not fit their pictures
    zero = torch.zeros(200)
    return Scores(zero, zero, zero, zero, zero.bool(), z, t, 20.0)


@pytest.mark.parametrize("name", detectors.FROM_EMBEDDINGS)
def test_every_detector_from_embeddings_scores_every_pair_and_repeats(embedded, scores, name):
    detector = detectors.get(name)
    first = detector(embedded)
    assert first.shape == (200,) and not first.isnan().any() and torch.equal(detector(embedded), first)
    assert inspect.getdoc(detector)
    with pytest.raises(ValueError, match="needs the embeddings of D"):
        detector(scores)


@pytest.mark.parametrize("name", ["k_distance", "slof", "dao", "isolation_forest"])
def test_density_detectors_suspect_what_is_far_from_all_others(embedded, name):
    most = detectors.get(name)(embedded).topk(20).indices.tolist()
    assert len(set(most) & set(range(10))) >= 8


def test_a_pairs_own_loss_by_hand():
    draw = torch.Generator().manual_seed(0)
    z, t = (torch.nn.functional.normalize(torch.randn(6, 4, generator=draw), dim=-1) for _ in range(2))
    logits = 5.0 * z.double().numpy() @ t.double().numpy().T

    def own(x: np.ndarray) -> np.ndarray:
        return np.log(np.exp(x).sum(1)) - x.diagonal()

    found = pair_loss(z, t, 5.0, batch=6).numpy()
    np.testing.assert_allclose(found, (own(logits) + own(logits.T)) / 2, atol=1e-5)


def test_no_pair_gets_a_low_loss_for_standing_in_a_small_batch():
    points = torch.nn.functional.normalize(torch.ones(257, 4), dim=-1)  # own loss: ln of the batch
    assert pair_loss(points, points, 5.0, batch=256).unique().tolist() == [pytest.approx(np.log(257))]
    assert pair_loss(points, points, 5.0, batch=100).min() >= np.log(128) - 1e-5


def test_abl_suspects_what_fits_best_and_least_of_all_what_does_not_fit(embedded):
    found = detectors.get("abl_loss")(embedded)
    assert set(found.topk(10, largest=False).indices.tolist()) == set(range(20, 30))


def test_a_batch_is_its_own_reference():
    """Thirty coinciding points are dense among all of D, and rare in a batch of few of them."""
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 8, generator=draw)
    points[:30] = 4.0
    among_all = in_batches(points, lambda d, _: neighbors.k_distance(d), batch=3000)
    in_parts = in_batches(points, lambda d, _: neighbors.k_distance(d), batch=300)
    assert among_all[:30].max() < among_all[30:].min()
    assert in_parts[:30].min() > in_parts[30:].median()


def test_an_unknown_detector_is_refused():
    with pytest.raises(ValueError, match="unknown detector 'luck'; known: random, clipscore"):
        detectors.get("luck")


# The stage


def test_every_detector_is_scored_on_the_same_pairs(chain):
    made = chain.run.scored
    assert made.config["inputs"]["overfitted"] == chain["overfit"].contents
    table, arrays = made.metrics["detectors"], made.arrays()
    assert set(table) == {*detectors.DETECTORS, "ubt"} == set(arrays)
    assert all(0 <= value <= 1 for row in table.values() for value in row.values())
    shared = chain["select"].metrics["detectors"]
    assert {name: table[name] for name in shared} == shared  # what select knows already is the same
    assert set(made.metrics["seconds"]) == set(detectors.DETECTORS)
    assert torch.equal(arrays["ubt"], chain["select"].arrays()["score"])
