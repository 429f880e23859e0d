"""What holds for every trigger of the registry, and bad input."""

import json

import numpy as np
import pytest
import torch
from drawn import noise, ready, stored
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import LABELS, Trigger, keyed_choice, stamp_bytes
from ubt_utils.attacks.craft import Crafted

STAMPING = [name for name, kind in triggers.TRIGGERS.items() if kind.label != "targeted"]
SCALABLE = [name for name, kind in triggers.TRIGGERS.items() if kind.strength]
every_trigger = pytest.mark.parametrize("name", triggers.TRIGGERS)
every_stamp = pytest.mark.parametrize("name", STAMPING)
sides = st.integers(12, 40)


@every_trigger
@given(batch=st.integers(1, 3), height=sides, width=sides, seed=st.integers(0, 99))
def test_stamping_keeps_shape_range_and_input_and_repeats(name, batch, height, width, seed):
    trigger, images = triggers.get(name), noise(batch, height, width, seed)
    before = images.clone()
    out = trigger(images)
    assert out.shape == images.shape and out.dtype == images.dtype
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, before) and not torch.equal(out, before)
    assert torch.equal(trigger(images), out)
    assert torch.equal(trigger(images[-1:])[0], out[-1])


@every_trigger
def test_a_spec_makes_the_same_trigger_again(name):
    trigger = triggers.get(name)
    assert trigger.spec()["name"] == name
    assert triggers.get(**trigger.spec()) == trigger


@every_trigger
def test_a_weaker_trigger_changes_less_and_is_otherwise_the_same(name):
    trigger, images = triggers.get(name), noise(2, 40, 40)
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
    out = stamp_bytes(triggers.get(name), images)
    exact = triggers.get(name)(images.double() / 255) * 255
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
        triggers.get(name)(images)


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
        triggers.get(name, **parameters)


def test_a_trigger_without_a_stamp_is_no_trigger():
    with pytest.raises(NotImplementedError):
        Trigger()(torch.zeros(1, 3, 8, 8))


def test_badnets_patch_and_margin_that_fill_the_image_still_fit():
    top, left, _, _ = BadNets(size=0.5, margin=0.5).box(35, 35)
    assert top >= 0 and left >= 0


def test_badnets_patch_on_a_small_image_still_has_both_colors():
    out = BadNets(size=0.25, cells=4, margin=0)(torch.full((1, 3, 8, 8), 0.5))
    assert {0.0, 1.0} <= set(out.unique().tolist())
