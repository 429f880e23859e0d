"""Disturbed pictures by hand, and what a disturbance takes of similarity and agreement."""

import numpy as np
import pytest
import torch

from ubt_utils.clip import models
from ubt_utils.profiles import PROFILES
from ubt_utils.ubt import disturb
from ubt_utils.ubt.disturb import COVERS, DISTURBANCES, agreement, change, drops
from ubt_utils.ubt.settings import Suspect


def picture(*rows: list[float]) -> torch.Tensor:
    """(1, 3, H, W), the three channels alike."""
    return torch.tensor(rows).expand(1, 3, -1, -1).clone()


def shown(name: str, *rows: list[float]) -> torch.Tensor:
    """(H, W) the first channel after a disturbance; the other two are alike."""
    found = DISTURBANCES[name](picture(*rows))
    assert found.shape == (1, 3, len(rows), len(rows[0])) and torch.equal(found[0, 0], found[0, 2])
    return found[0, 0]


SQUARE = [0.0, 1.0], [2.0, 3.0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("column_means", [[0.5, 0.5], [2.5, 2.5]]),  # columns at 1 and 2, the picture at 1.5
        ("row_means", [[1.0, 2.0], [1.0, 2.0]]),  # rows at 0.5 and 2.5
        ("pale", [[0.9, 1.3], [1.7, 2.1]]),  # 1.5 + 0.4 · (x − 1.5)
    ],
)
def test_a_picture_of_four_pixels_by_hand(name, expected):
    torch.testing.assert_close(shown(name, *SQUARE), torch.tensor(expected))


def test_blur_leaves_half_of_the_resolution():
    found = shown("blur", [1.0, 0, 0, 0], *[[0.0] * 4] * 3)  # a quarter of the first of 2 × 2 fields
    way = torch.tensor([1, 0.75, 0.25, 0])
    torch.testing.assert_close(found, 0.25 * way[:, None] * way)


def test_along_columns_averages_a_quarter_of_the_side_and_no_column_with_another():
    rows = [[0.0] * 8 for _ in range(8)]
    rows[3][2], rows[0][5] = 9.0, 3.0
    found = shown("along_columns", *rows)
    assert found[:, 2].tolist() == [0, 0, 3, 3, 3, 0, 0, 0]
    assert found[:, 5].tolist() == [2, 1, 0, 0, 0, 0, 0, 0]  # the edge counts twice
    assert found.sum() == 12


def test_medians_take_what_is_finer_than_two_pixels_and_leave_edges_and_ends():
    rows = [[0.0, 0, 0, 1, 1, 1]] * 6  # an edge
    assert torch.equal(shown("medians", *rows), torch.tensor(rows))
    spot = [[0.0] * 6 for _ in range(6)]
    spot[2][3] = 9.0
    assert shown("medians", *spot).eq(0).all()
    ramp = [[0.0, 1, 2, 3, 4, 5]] * 6  # of three neighbors the middle one is the median
    assert torch.equal(shown("medians", *ramp), torch.tensor(ramp))
    end = [[7.0, 0, 0, 0, 0, 0]] * 6
    assert torch.equal(shown("medians", *end), torch.tensor(end))  # the last pixel of a row has one neighbor


def test_a_second_turn_of_medians_takes_what_the_first_leaves():
    line = [0.0, 0, 5, 0, 5, 5, 0, 5, 0, 0]  # a median of three leaves 0 0 0 5 5 5 5 0 0 0
    rows = [line] * 4
    once = torch.tensor([0.0, 0, 0, 5, 5, 5, 5, 0, 0, 0])
    assert torch.equal(shown("medians", *rows)[1], once)
    line = [0.0, 5, 0, 5, 0, 5, 0, 0]  # the first turn leaves 0 0 5 0 5 0 0 0
    assert shown("medians", *[line] * 4)[1].tolist() == [0, 0, 0, 5, 0, 0, 0, 0]


def test_cropped_enlarges_the_middle():
    found = shown("cropped", *[[float(x) for x in range(8)]] * 8)  # an eighth off each side: 1 to 6
    expected = torch.tensor([1, 1.625, 2.375, 3.125, 3.875, 4.625, 5.375, 6])
    torch.testing.assert_close(found, expected.expand(8, 8))


@pytest.mark.parametrize(
    ("name", "down", "right"),
    [
        ("upper_left", 0, 0),
        ("upper_right", 0, 2),
        ("lower_left", 2, 0),
        ("lower_right", 2, 2),
        ("center", 1, 1),
    ],
)
def test_a_cover_hides_a_quarter_of_the_picture_and_nothing_else(name, down, right):
    rows = [[float(4 * y + x) for x in range(4)] for y in range(4)]
    images = picture(*rows)
    found = DISTURBANCES[name](images)[0, 0]
    hidden = torch.zeros(4, 4, dtype=torch.bool)
    hidden[down : down + 2, right : right + 2] = True
    assert (found[hidden] == 7.5).all()  # the mean of 0 to 15
    assert torch.equal(found[~hidden], torch.tensor(rows)[~hidden])
    assert torch.equal(images, picture(*rows))  # the picture itself is left alone


@pytest.mark.parametrize(("name", "axis"), [("column_means", -1), ("row_means", -2)])
def test_stripes_however_wide_are_gone(name, axis):
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    stripes = torch.tensor([0.3] * 6 + [-0.3] * 6).view([12 if i == axis % 4 else 1 for i in range(4)])
    torch.testing.assert_close(DISTURBANCES[name](images + stripes), DISTURBANCES[name](images))


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_picture_of_one_color_stays_as_it_is_and_stored_ones_stay_stored(name):
    images = torch.tensor([0, 90, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 16, 16)
    assert torch.equal(change(name)(images), images) and change(name)(images).dtype == torch.uint8


def test_a_change_rounds_and_stays_in_range():
    images = torch.tensor([[0, 255], [0, 0]], dtype=torch.uint8).expand(1, 3, 2, 2)
    found = change("column_means")(images)[0, 0]  # columns at 0 and 127.5, the picture at 63.75
    assert found.tolist() == [[64, 191], [64, 0]]


def test_an_unknown_disturbance_is_refused():
    with pytest.raises(ValueError, match="unknown disturbance 'luck'; known: blur, along_columns"):
        change("luck")


def test_every_disturbance_is_of_a_family_and_drawings_need_no_cover():
    families = [{*profile.suspect.family, *profile.suspect.further} for profile in PROFILES.values()]
    assert set.union(*families) == set(DISTURBANCES)
    assert {*Suspect().family, *Suspect().further} == set(DISTURBANCES) - set(COVERS)


# What is lost


def test_drops_are_what_each_disturbance_takes_of_a_pairs_similarity(monkeypatch):
    """A model to which a picture fits its caption as far as it is bright."""
    asked = []

    def bright(model, images, change=None):
        asked.append(len(images))
        x = (change(images) if change else images).float().mean((1, 2, 3)) / 255
        return torch.stack([x, (1 - x**2).sqrt()], 1)

    monkeypatch.setattr(models, "embed_images", bright)
    monkeypatch.setattr(
        models, "embed_tokens", lambda model, tokens: torch.tensor([[1.0, 0.0]] * len(tokens))
    )
    images = torch.full((2, 3, 8, 8), 51, dtype=torch.uint8)
    images[1] = 255
    images[1, :, 1:-1, 1:-1] = 0  # a bright frame, of 28 of 64 pixels
    tokens, whole = torch.zeros(2, 4, dtype=torch.long), torch.tensor([0.2, 28 / 64])
    found = drops(None, images, tokens, whole, torch.tensor([True, True]), ("pale", "cropped"))
    torch.testing.assert_close(found, torch.tensor([[0, 0], [0, 28 / 64]]), rtol=0, atol=1e-3)  # in bytes
    assert asked == [2, 2]
    part = drops(None, images, tokens, whole, torch.tensor([False, True]), ("pale", "cropped"))
    assert torch.equal(part[:, 1], found[:, 1]) and part[:, 0].tolist() == [-torch.inf] * 2
    nobody = drops(None, images, tokens, whole, torch.tensor([False, False]), ("pale",))
    assert nobody.tolist() == [[-torch.inf] * 2] and asked == [2, 2, 1, 1]


def embed_as(monkeypatch, whole: torch.Tensor, disturbed: torch.Tensor) -> None:
    """Pictures that have these embeddings, whole and disturbed."""
    monkeypatch.setattr(
        models, "embed_images", lambda model, images, change=None: disturbed if change else whole
    )


def test_agreement_is_the_mean_cosine_of_all_pairs(monkeypatch):
    embed_as(monkeypatch, torch.eye(3)[[0, 0, 1]], torch.eye(3))
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    assert agreement(None, images) == pytest.approx(1 / 3)  # cosines 1, 0 and 0
    assert agreement(None, images, "blur") == pytest.approx(0)


@pytest.mark.parametrize("n", [2, 7, 40])
def test_agreement_is_what_a_loop_over_pairs_finds(monkeypatch, n):
    z = np.random.default_rng(n).normal(1, 1, (n, 5))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    embed_as(monkeypatch, torch.tensor(z), torch.tensor(-z))
    expected = np.mean([z[i] @ z[j] for i in range(n) for j in range(n) if i != j])
    assert agreement(None, torch.zeros(n, 3, 8, 8)) == pytest.approx(expected, abs=1e-12)


def test_the_named_disturbance_is_the_one_that_is_applied():
    model = models.create("ubt-tiny", 0).eval()
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=draw, dtype=torch.uint8)
    for name in DISTURBANCES:
        z = models.embed_images(model, change(name)(images)).double().numpy()
        expected = np.mean([z[i] @ z[j] for i in range(4) for j in range(i)])
        assert agreement(model, images, name) == pytest.approx(expected, abs=1e-5)


def test_one_picture_agrees_with_nothing():
    with pytest.raises(ValueError, match="at least two pictures, got 1"):
        agreement(None, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_the_constants_are_those_of_the_method():
    assert (disturb.BOX, disturb.COARSE, disturb.PALE, disturb.EDGE) == (0.25, 2, 0.4, 0.125)
