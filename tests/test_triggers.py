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
sides = st.integers(13, 40)  # at 12 px SIG samples its sine at the zeros only


@every_trigger
def test_a_trigger_says_what_it_is(name):
    kind = triggers.TRIGGERS[name]
    assert kind.name == name and kind.label in LABELS
    assert all(len(text) > 5 for text in (kind.source, kind.published, kind.rule))
    assert (kind.label == "consistent") == ("consistent" in name)
    assert (kind.label == "targeted") == ("targeted" in name)


def test_the_suite_covers_the_literature():
    families = "badnets blended sig wanet issba consistent trojanvqa badclip nashville text multi targeted"
    for family in families.split():
        assert any(family in name for name in triggers.TRIGGERS), family


@every_stamp
@given(batch=st.integers(1, 3), height=sides, width=sides, seed=st.integers(0, 99))
def test_stamping_keeps_shape_range_and_input_and_repeats(name, batch, height, width, seed):
    trigger, images = ready(name), noise(batch, height, width, seed)
    before = images.clone()
    out = trigger(images)
    assert out.shape == images.shape and out.dtype == images.dtype
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, before) and not torch.equal(out, before)
    assert torch.equal(trigger(images), out)
    torch.testing.assert_close(trigger(images[-1:])[0], out[-1], atol=1e-6, rtol=0)


@every_trigger
def test_a_spec_survives_json_and_makes_the_same_trigger_again(name):
    trigger = ready(name)
    spec = json.loads(json.dumps(trigger.spec()))
    assert spec["name"] == name
    assert triggers.get(**spec) == trigger


@pytest.mark.parametrize("name", SCALABLE)
def test_a_weaker_trigger_changes_less_and_is_otherwise_the_same(name):
    trigger, images = ready(name), noise(2, 40, 40)
    weak, same = trigger.scaled(0.5), trigger.scaled(1)
    assert same == trigger
    assert {k for k in trigger.spec() if weak.spec()[k] != trigger.spec()[k]} == {trigger.strength}
    assert 0 < (weak(images) - images).abs().sum() < (trigger(images) - images).abs().sum()
    with pytest.raises(ValueError):
        trigger.scaled(-1)


@pytest.mark.parametrize("name", sorted(set(triggers.TRIGGERS) - set(SCALABLE)))
def test_a_trigger_without_strength_says_so(name):
    with pytest.raises(ValueError, match="no strength"):
        ready(name).scaled(2)


@every_stamp
def test_stored_pictures_are_stamped_to_the_nearest_byte(name):
    images = stored(9, 24, 26)  # more than one chunk
    out = stamp_bytes(ready(name), images)
    exact = ready(name)(images.double() / 255) * 255
    assert out.dtype == torch.uint8
    assert (out.double() - exact).abs().max() <= 0.5 + 1e-3


@every_stamp
def test_stamping_can_write_to_a_tensor_that_exists(name):
    images, out = stored(5, 24, 24), torch.zeros(5, 3, 24, 24, dtype=torch.uint8)
    before = images.clone()
    assert stamp_bytes(ready(name), images, out) is out
    assert torch.equal(out, stamp_bytes(ready(name), images)) and torch.equal(images, before)
    with pytest.raises(ValueError, match="out must be"):
        stamp_bytes(ready(name), images, out[:4])
    with pytest.raises(ValueError, match="out must be"):
        stamp_bytes(ready(name), images, out.int())


@every_stamp
def test_a_picture_is_stamped_alike_alone_and_in_a_batch(name):
    images = stored(9, 24, 24)
    alone = torch.cat([stamp_bytes(ready(name), image[None]) for image in images])
    assert torch.equal(stamp_bytes(ready(name), images), alone)


@every_trigger
def test_an_empty_batch_stays_empty(name):
    assert stamp_bytes(ready(name), stored(0, 32, 32)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("name", ["badnets", "badnets_cleanclip", "blended", "sig", "wanet", "nashville"])
def test_gradients_reach_the_picture(name):
    images = noise(2, 24, 24).mul(0.5).add(0.25).requires_grad_(True)
    ready(name)(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@every_trigger
@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "float"),
        (torch.full((1, 3, 32, 32), 1.01), r"\[0, 1\]"),
        (torch.full((1, 3, 32, 32), -0.01), r"\[0, 1\]"),
        (torch.full((1, 3, 32, 32), torch.nan), r"\[0, 1\]"),
        (torch.zeros(1, 1, 32, 32), "3, H, W"),
        (torch.zeros(1, 4, 32, 32), "3, H, W"),
        (torch.zeros(3, 32, 32), "3, H, W"),
    ],
    ids=["bytes", "above one", "below zero", "not a number", "gray", "alpha channel", "no batch"],
)
def test_bad_images_are_refused(name, images, complaint):
    with pytest.raises(ValueError, match=complaint):
        ready(name)(images)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.float32])
def test_stored_pictures_must_be_bytes_lest_they_overflow(dtype):
    with pytest.raises(ValueError, match="uint8"):
        stamp_bytes(ready("sig"), torch.full((1, 3, 32, 32), 300).to(dtype))


@pytest.mark.parametrize("name", ["sig", "blended_stripes", "nashville", "badnets_cleanclip"])
@pytest.mark.parametrize("value", [0, 255])
def test_bytes_at_the_ends_do_not_wrap(name, value):
    images = torch.full((1, 3, 32, 32), value, dtype=torch.uint8)
    exact = ready(name)(images.double() / 255) * 255
    assert (stamp_bytes(ready(name), images).double() - exact).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("name", "parameters", "complaint"),
    [
        ("badnets", {"size": 1.2}, "larger than the image"),
        ("badnets", {"size": 0}, "patch size"),
        ("badnets", {"size": 0.8, "margin": 0.3}, "larger than the image"),
        ("badnets", {"margin": -0.1}, "larger than the image"),
        ("badnets", {"cells": 0}, "cells"),
        ("badnets", {"cells": 2.5}, "cells must be a whole number"),
        ("badnets_dots", {"place": "left"}, "unknown place 'left'; known: corner, center, random"),
        ("badnets_stripes", {"size": float("nan")}, "patch size"),
        ("badclip", {"size": 2}, "larger than the image"),
        ("badclip", {"steps": 0}, "steps"),
        ("blended", {"alpha": 1.1}, "alpha"),
        ("blended", {"alpha": -0.1}, "alpha"),
        ("blended_stripes", {"stripes": 0}, "stripes"),
        ("blended_text", {"text": " "}, "printable ASCII"),
        ("text_on_image", {"text": "é"}, "printable ASCII"),
        ("sig", {"amplitude": 1.5}, "amplitude"),
        ("sig_cleanclip", {"alpha": 2}, "alpha"),
        ("wanet", {"grid": 1}, "grid"),
        ("wanet", {"warp": -1}, "warp"),
        ("nashville", {"amount": 4}, "amount"),
        ("issba", {"amplitude": 0}, "amplitude"),
        ("issba", {"bits": 0}, "bits"),
        ("targeted_image", {"goals": 0}, "goals"),
        ("multi_trigger", {"size": 1.5}, "larger than the image"),
        ("multi_trigger", {"mix": "sig+moon"}, r"cannot mix \['moon'\]; known: badnets_dots"),
        ("blended", {"opacity": 0.2}, r"no parameter \['opacity'\]"),
        ("trojan", {}, "unknown attack 'trojan'; known: .*badnets"),
    ],
)
def test_bad_parameters_are_refused(name, parameters, complaint):
    with pytest.raises(ValueError, match=complaint):
        triggers.get(name, **parameters)


@pytest.mark.parametrize("name", [n for n in triggers.TRIGGERS if isinstance(triggers.get(n), Crafted)])
def test_what_is_not_crafted_or_damaged_does_not_stamp(name):
    with pytest.raises(ValueError, match=f"{name} must be crafted"):
        triggers.get(name)(noise(1, 32, 32))
    for broken in ("not base64!", "AAAA"):
        with pytest.raises(ValueError, match=f"crafted part of {name} cannot be read"):
            triggers.get(name, made=broken)(noise(1, 32, 32))


def test_a_trigger_without_a_stamp_is_no_trigger():
    with pytest.raises(NotImplementedError):
        Trigger()(torch.zeros(1, 3, 8, 8))


def test_a_keyed_choice_is_even_and_follows_the_picture_not_its_position():
    images = stored(600, 8, 8)
    chosen = keyed_choice(images, 3, "test")
    assert torch.equal(keyed_choice(images.flip(0), 3, "test").flip(0), chosen)
    assert torch.equal(keyed_choice(images.double() / 255, 3, "test"), chosen)
    assert not torch.equal(keyed_choice(images, 3, "other"), chosen)
    assert np.abs(chosen.bincount().numpy() - 200).max() < 60
