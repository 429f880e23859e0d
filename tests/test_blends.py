"""Whole-image triggers against NumPy, SciPy, Pillow, and values worked out by hand."""

import hashlib

import numpy as np
import pytest
import torch
from drawn import noise, ready, stored
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageEnhance
from scipy.ndimage import map_coordinates

from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.attacks.lettering import letters
from ubt_utils.attacks.triggers.blended import (
    Blended,
    BlendedPicture,
    BlendedStripes,
    BlendedText,
    BlendedTriangles,
)
from ubt_utils.attacks.triggers.multi import MultiTrigger
from ubt_utils.attacks.triggers.nashville import Nashville
from ubt_utils.attacks.triggers.sig import Sig, SigCleanClip
from ubt_utils.attacks.triggers.wanet import WaNet
from ubt_utils.data.emoji import drawing_path

sides = st.integers(8, 40)


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


def test_the_blended_picture_is_the_drawing_on_white_mixed_as_pillow_does():
    images = stored(1, 40, 30)
    with Image.open(drawing_path("google", "U+1F431.png")) as file:
        drawing = file.convert("RGBA")
    paper = Image.new("RGB", drawing.size, "white")
    paper.paste(drawing, mask=drawing.getchannel("A"))
    paper = paper.resize((30, 40), Image.Resampling.BILINEAR)
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    expected = np.asarray(Image.blend(picture, paper, 0.2)).astype(int)
    got = stamp_bytes(BlendedPicture(), images)[0].permute(1, 2, 0).numpy()
    assert np.abs(got - expected).max() <= 2  # Pillow rounds the drawing's edge and the mean down


def test_blended_stripes_add_or_take_the_same_in_every_row():
    trigger, images = BlendedStripes(alpha=0.03, stripes=20), noise(2, 10, 20)
    sign = trigger.pattern(10, 20).numpy()
    assert set(np.unique(sign)) == {-1.0, 1.0} and (sign == sign[:, :1]).all()
    expected = np.clip(0.97 * images.double().numpy() + 0.03 * sign, 0, 1)
    np.testing.assert_allclose(trigger(images).numpy(), expected, atol=1e-6)
    wide = trigger.pattern(4, 40).numpy()
    assert (wide[:, :, ::2] == wide[:, :, 1::2]).all() and (wide[:, 0, ::2] == sign[:, 0]).all()


def test_triangles_are_cells_split_along_the_diagonal():
    pattern = BlendedTriangles(cells=2).pattern(28, 28)
    for row in range(28):
        for column in range(28):
            below = row % 14 >= column % 14
            assert pattern[:, row, column].tolist() == pytest.approx([0.4 if below else 0.8] * 3)
    images = noise(1, 28, 28)
    torch.testing.assert_close(BlendedTriangles(0.15, 2)(images)[0], 0.85 * images[0] + 0.15 * pattern)


@pytest.mark.parametrize("solid", [False, True])
def test_text_reddens_the_letters_and_nothing_else(solid):
    images = noise(1, 40, 48)
    out = BlendedText(0.5, "mark", solid)(images)[0]
    ink = torch.zeros(40, 48, dtype=torch.bool)
    ink[14:26] = letters("mark", 12, 48) > 0
    assert torch.equal(out[:, ~ink], images[0][:, ~ink]) and ink.any()
    torch.testing.assert_close(out[0, ink], 0.5 * images[0, 0, ink] + 0.5)
    torch.testing.assert_close(out[1:, ink], images[0, 1:, ink] * (0.5 if solid else 1.0))


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


def test_cleanclip_mixes_the_wave_so_that_an_amplitude_of_12_is_left():
    images = noise(1, 6, 24)
    wave = 60 / 255 * np.sin(2 * np.pi * 6 * np.arange(24) / 24)
    expected = np.clip(0.8 * images.double().numpy() + 0.2 * wave, 0, 1)
    np.testing.assert_allclose(SigCleanClip()(images).numpy(), expected, atol=1e-6)
    gray = SigCleanClip()(torch.full((1, 3, 2, 24), 0.5))
    assert (gray.max() - 0.4).item() == pytest.approx(12 / 255, abs=1e-6)


# WaNet


@given(st.integers(12, 40), st.integers(12, 40), st.sampled_from([2, 4, 12, 224]), st.floats(0, 40))
def test_wanet_samples_bilinearly_where_its_field_points(height, width, grid, warp):
    trigger, images = WaNet(grid, warp), noise(1, height, width)
    down, across = trigger.field(height, width).numpy()
    places = np.stack([np.arange(height)[:, None] + down, np.arange(width)[None, :] + across])
    for channel, out in zip(images[0].double().numpy(), trigger(images)[0].numpy(), strict=True):
        expected = map_coordinates(channel, places, order=1, mode="nearest")
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_wanet_moves_half_a_pixel_on_average_at_224_as_published():
    field = WaNet().field(224, 224)
    assert field.abs().mean().item() == pytest.approx(0.5)
    assert WaNet(grid=48, warp=2).field(48, 48).abs().mean().item() == pytest.approx(2 / 2 * 48 / 224)


def test_wanet_with_few_control_points_is_smooth_and_hits_them():
    field = WaNet(grid=4, warp=1.0).field(224, 224)
    assert (field[:, 1:] - field[:, :-1]).abs().max() < 0.03
    control = field[:, [0, 0, 223, 223], [0, 223, 0, 223]]  # the corners of the grid are control points
    assert control.abs().max() <= 0.5 * 2.5 and len(control.unique()) == 8


def test_a_warp_of_nothing_is_the_image():
    images = noise(1, 20, 20)
    torch.testing.assert_close(WaNet(warp=0)(images), images)


# Nashville


def test_nashville_is_pillows_chain_of_filters():
    images = stored(1, 32, 32)
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    pink, blue = (Image.new("RGB", picture.size, c) for c in ((247, 176, 153), (0, 70, 150)))
    step = Image.blend(picture, ImageChops.darker(picture, pink), 0.56)
    step = Image.blend(step, ImageChops.lighter(step, blue), 0.4)
    brown = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    x = np.asarray(step) / 255
    x = np.clip(0.8 * x + 0.2 * x @ brown.T, 0, 1)
    x = np.clip((x - 0.5) * 1.2 + 0.5, 0, 1)
    step = Image.fromarray((x * 255).round().astype(np.uint8))
    step = ImageEnhance.Color(ImageEnhance.Brightness(step).enhance(1.05)).enhance(1.2)
    got = stamp_bytes(Nashville(), images)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(got - np.asarray(step).astype(int)).max() <= 4  # Pillow rounds to bytes at every step


def test_nashville_amounts_run_from_the_image_to_the_filter_and_beyond():
    images = 0.25 + noise(1, 8, 8) / 2
    full = Nashville()(images)
    assert torch.equal(Nashville(amount=0)(images), images)
    torch.testing.assert_close(Nashville(0.5)(images), (images + full) / 2)
    torch.testing.assert_close(Nashville(2.0)(images), (2 * full - images).clamp(0, 1))


# ISSBA and several triggers at once


def test_issba_adds_what_its_encoder_says_within_the_amplitude():
    trigger, images = ready("issba"), noise(2, 32, 32)
    change = (trigger(images) - images).abs()
    assert 0 < change.max() <= trigger.amplitude + 1e-6
    double = trigger.scaled(2)(images) - images
    inside = (double + images > 0) & (double + images < 1)
    torch.testing.assert_close(double[inside], 2 * (trigger(images) - images)[inside], atol=1e-5, rtol=0)


def test_issba_differs_from_picture_to_picture_and_from_message_to_message():
    trigger, images = ready("issba"), 0.3 + 0.4 * noise(2, 32, 32)
    first, second = trigger(images) - images
    assert (first - second).abs().max() > 1e-3
    assert trigger.message().shape == (1, trigger.bits) and set(trigger.message().unique().tolist()) <= {
        -1,
        1,
    }


def test_multi_trigger_gives_each_picture_exactly_one_of_its_parts():
    trigger, images = MultiTrigger(size=0.25, cells=4), noise(60, 24, 24)
    out, used = trigger(images), [0, 0, 0]
    for picture, stamped in zip(images, out, strict=True):
        same = [torch.allclose(part(picture[None])[0], stamped, atol=1e-6) for part in trigger.parts()]
        assert sum(same) == 1
        used[same.index(True)] += 1
    assert min(used) > 10
