"""Triggers against patterns drawn by hand and formulas in NumPy."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils import attacks
from ubt_utils.attacks.badnets import BadNets
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.attacks.blended import Blended
from ubt_utils.attacks.sig import Sig

every_trigger = pytest.mark.parametrize("name", attacks.TRIGGERS)
sides = st.integers(8, 40)


def noise(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def drawn(*rows: str) -> torch.Tensor:
    return torch.tensor([[float(c) for c in row] for row in rows])


# BadNets


def test_badnets_draws_a_checkerboard_into_the_corner():
    out = BadNets(size=0.25, cells=4, margin=0)(torch.full((1, 3, 16, 16), 0.5))
    board = drawn("0101", "1010", "0101", "1010")
    for channel in out[0]:
        assert torch.equal(channel[12:, 12:], board)
    assert out.sum() == 3 * (16 * 16 - 16) * 0.5 + 3 * 8


def test_badnets_cells_scale_and_margin_moves_the_patch_inwards():
    out = BadNets(size=0.2, cells=2, margin=0.1)(torch.full((1, 3, 20, 20), 0.5))
    patch = drawn("0011", "0011", "1100", "1100")
    assert torch.equal(out[0, 0, 14:18, 14:18], patch)
    assert (out[0, 0, 18:] == 0.5).all() and (out[0, 0, :, 18:] == 0.5).all()


def test_badnets_measures_the_shorter_side():
    assert BadNets(size=0.25, margin=0).box(40, 16) == (36, 12, 40, 16)
    assert BadNets(size=0.25, margin=0).box(16, 40) == (12, 36, 16, 40)


@given(sides, sides, st.floats(0.05, 0.9), st.floats(0, 0.09), st.integers(1, 8))
def test_badnets_leaves_the_rest_of_the_image_alone(height, width, size, margin, cells):
    trigger, images = BadNets(size, cells, margin), noise(2, height, width)
    top, left, bottom, right = trigger.box(height, width)
    assert 0 <= top < bottom <= height and 0 <= left < right <= width
    out = trigger(images)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal(out[:, :, ~inside], images[:, :, ~inside])
    assert set(out[:, :, inside].unique().tolist()) <= {0.0, 1.0}


# Blended


def test_blended_is_the_weighted_mean_of_image_and_pattern():
    trigger, images = Blended(alpha=0.3, seed=5), noise(2, 9, 11)
    pattern = trigger.pattern(9, 11).double().numpy()
    expected = 0.7 * images.double().numpy() + 0.3 * pattern
    np.testing.assert_allclose(trigger(images).numpy(), expected, atol=1e-6)


def test_blended_pattern_is_pinned_to_the_byte():
    first = Blended().pattern(2, 2) * 255
    assert first.round().int().flatten().tolist() == [68, 113, 182, 110, 144, 120, 87, 111, 168, 25, 133, 212]


def test_blended_pattern_is_a_mersenne_twister_seeded_by_what_it_is_for():
    digest = hashlib.sha256(b"(3, 'blended pattern', 10, 12)").digest()
    seed = int.from_bytes(digest[:8], "big") // 2 % 2**32
    raw = np.random.RandomState(seed)._bit_generator.random_raw(3 * 10 * 12) % 256
    pattern = Blended(seed=3).pattern(10, 12)
    np.testing.assert_allclose(pattern.numpy(), raw.reshape(3, 10, 12) / 255, atol=1e-7)


def test_blended_pattern_is_uniform_noise_that_depends_on_the_seed():
    a, b = Blended(seed=0).pattern(48, 48), Blended(seed=1).pattern(48, 48)
    assert a.shape == (3, 48, 48) and a.min() >= 0 and a.max() <= 1
    assert abs(a.mean() - 0.5) < 0.02 and abs(a.std() - 12**-0.5) < 0.02
    assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.05


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_blended_ends_are_the_image_and_the_pattern(alpha):
    images, trigger = noise(1, 8, 8), Blended(alpha=alpha)
    expected = images[0] if alpha == 0 else trigger.pattern(8, 8)
    assert torch.equal(trigger(images)[0], expected)


# SIG


def test_sig_golden_values_at_four_columns_a_wave():
    out = Sig(amplitude=60 / 255, frequency=6)(torch.full((1, 3, 5, 24), 0.5))
    step = 60 / 255
    wave = torch.tensor([0.5, 0.5 + step, 0.5, 0.5 - step] * 6)
    torch.testing.assert_close(out, wave.expand(1, 3, 5, 24))


@given(sides, sides, st.floats(0, 1), st.floats(0.5, 12))
def test_sig_adds_a_sine_over_the_columns_and_clips(height, width, amplitude, frequency):
    images = noise(2, height, width)
    wave = amplitude * np.sin(2 * np.pi * frequency * np.arange(width) / width)
    expected = np.clip(images.double().numpy() + wave, 0, 1)
    np.testing.assert_allclose(Sig(amplitude, frequency)(images).numpy(), expected, atol=1e-6)


# All triggers


@every_trigger
@given(batch=st.integers(1, 3), height=sides, width=sides, seed=st.integers(0, 99))
def test_stamping_keeps_shape_range_and_input_and_repeats(name, batch, height, width, seed):
    trigger, images = attacks.get(name), noise(batch, height, width, seed)
    before = images.clone()
    out = trigger(images)
    assert out.shape == images.shape and out.dtype == images.dtype
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, before) and not torch.equal(out, before)
    assert torch.equal(trigger(images), out)
    assert torch.equal(trigger(images[-1:])[0], out[-1])


@every_trigger
def test_a_spec_makes_the_same_trigger_again(name):
    trigger = attacks.get(name)
    assert trigger.spec()["name"] == name
    assert attacks.get(**trigger.spec()) == trigger


@every_trigger
def test_a_weaker_trigger_changes_less_and_is_otherwise_the_same(name):
    trigger, images = attacks.get(name), noise(2, 40, 40)
    weak, same = trigger.scaled(0.5), trigger.scaled(1)
    assert same == trigger and {k for k in trigger.spec() if weak.spec()[k] != trigger.spec()[k]} == {
        trigger.strength
    }
    assert 0 < (weak(images) - images).abs().sum() < (trigger(images) - images).abs().sum()
    with pytest.raises(ValueError):
        trigger.scaled(-1)


@every_trigger
def test_stored_pictures_are_stamped_to_the_nearest_byte(name):
    images = (noise(2, 12, 14) * 255).to(torch.uint8)
    out = stamp_bytes(attacks.get(name), images)
    exact = attacks.get(name)(images.double() / 255) * 255
    assert out.dtype == torch.uint8
    assert (out.double() - exact).abs().max() <= 0.5 + 1e-3


@every_trigger
@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "float"),
        (torch.full((1, 3, 8, 8), 1.01), r"\[0, 1\]"),
        (torch.full((1, 3, 8, 8), -0.01), r"\[0, 1\]"),
        (torch.full((1, 3, 8, 8), torch.nan), r"\[0, 1\]"),
        (torch.zeros(1, 1, 8, 8), "3, H, W"),
        (torch.zeros(3, 8, 8), "3, H, W"),
    ],
    ids=["bytes", "above one", "below zero", "not a number", "gray", "no batch"],
)
def test_bad_images_are_refused(name, images, complaint):
    with pytest.raises(ValueError, match=complaint):
        attacks.get(name)(images)


@pytest.mark.parametrize(
    ("name", "parameters", "complaint"),
    [
        ("badnets", {"size": 1.2}, "patch size"),
        ("badnets", {"size": 0}, "patch size"),
        ("badnets", {"size": 0.8, "margin": 0.3}, "larger than the image"),
        ("badnets", {"margin": -0.1}, "larger than the image"),
        ("badnets", {"cells": 0}, "cells"),
        ("blended", {"alpha": 1.1}, "alpha"),
        ("blended", {"alpha": -0.1}, "alpha"),
        ("sig", {"amplitude": 1.5}, "amplitude"),
        ("blended", {"opacity": 0.2}, "opacity"),
        ("wanet", {}, "unknown attack 'wanet'; known: .*badnets"),
    ],
)
def test_bad_parameters_are_refused(name, parameters, complaint):
    with pytest.raises(ValueError, match=complaint):
        attacks.get(name, **parameters)


def test_a_trigger_without_a_stamp_is_no_trigger():
    with pytest.raises(NotImplementedError):
        Trigger()(torch.zeros(1, 3, 8, 8))


def test_badnets_patch_and_margin_that_fill_the_image_still_fit():
    top, left, _, _ = BadNets(size=0.5, margin=0.5).box(35, 35)
    assert top >= 0 and left >= 0


def test_badnets_patch_on_a_small_image_still_has_both_colors():
    out = BadNets(size=0.25, cells=4, margin=0)(torch.full((1, 3, 8, 8), 0.5))
    assert {0.0, 1.0} <= set(out.unique().tolist())
