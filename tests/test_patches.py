"""Patch triggers against boards drawn by hand."""

import numpy as np
import pytest
import torch
from drawn import drawn, noise, ready
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.attacks.lettering import letters
from ubt_utils.attacks.patch import Patch
from ubt_utils.attacks.triggers.badnets import BadNets, BadNetsCleanClip, BadNetsDots, BadNetsStripes
from ubt_utils.attacks.triggers.text_on_image import TextOnImage

sides = st.integers(8, 40)
GRAY = torch.full((1, 3, 16, 16), 0.5)
STRIPES = ["10111110", "00011010", "00110111"]  # red, green, blue: drawn once from seed 0
HI = """
#.....#..
#........
#........
###..##..
#.##..#..
#.##..#..
#.##..#..
#.##..#..
#.##..#..
#.##.####
""".split()


def changed(trigger, images) -> torch.Tensor:
    """(B, H, W) bool: where any channel differs."""
    return (trigger(images) != images).any(1)


def test_badnets_draws_a_checkerboard_into_the_corner():
    out = BadNets(size=0.25, cells=4, margin=0)(GRAY)
    board = drawn("0101", "1010", "0101", "1010")
    for channel in out[0]:
        assert torch.equal(channel[12:, 12:], board)
    assert out.sum() == 3 * (16 * 16 - 16) * 0.5 + 3 * 8


def test_badnets_cells_scale_and_margin_moves_the_patch_inwards():
    out = BadNets(size=0.2, cells=2, margin=0.1)(torch.full((1, 3, 20, 20), 0.5))
    patch = drawn("0011", "0011", "1100", "1100")
    assert torch.equal(out[0, 0, 14:18, 14:18], patch)
    assert (out[0, 0, 18:] == 0.5).all() and (out[0, 0, :, 18:] == 0.5).all()


def test_a_patch_measures_the_shorter_side():
    trigger = BadNets(size=0.25, margin=0)
    assert trigger.side(40, 16) == trigger.side(16, 40) == 4
    assert changed(trigger, noise(1, 40, 16))[0, 36:, 12:].all()
    assert changed(trigger, noise(1, 16, 40))[0, 12:, 36:].all()


@pytest.mark.parametrize("kind", [BadNets, BadNetsCleanClip, BadNetsDots, BadNetsStripes])
def test_the_published_patch_is_16_pixels_at_224(kind):
    assert kind().side(224, 224) == 16


@given(sides, sides, st.floats(0.05, 0.9), st.sampled_from(["corner", "center", "random"]), st.integers(1, 8))
def test_a_patch_leaves_the_rest_of_the_image_alone(height, width, size, place, cells):
    trigger, images = BadNetsDots(size, cells, place), noise(2, height, width)
    side = trigger.side(height, width)
    for top, left, before, after in zip(*trigger.corners(images, side), images, trigger(images), strict=True):
        assert 0 <= top <= height - side and 0 <= left <= width - side
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[top : top + side, left : left + side] = True
        assert torch.equal(after[:, ~inside], before[:, ~inside])
        assert set(after[:, inside].unique().tolist()) <= {0.0, 1.0}


def test_badnets_patch_and_margin_that_fill_the_image_still_fit():
    assert changed(BadNets(size=0.5, margin=0.5), noise(1, 35, 35)).sum() == 18 * 18


def test_badnets_patch_on_a_small_image_still_has_both_colors():
    out = BadNets(size=0.25, cells=4, margin=0)(torch.full((1, 3, 8, 8), 0.5))
    assert {0.0, 1.0} <= set(out.unique().tolist())


def test_a_centered_patch_is_in_the_center():
    out = changed(BadNetsDots(0.25, 4, "center"), GRAY)[0]
    rows, columns = out.any(1).nonzero().flatten().tolist(), out.any(0).nonzero().flatten().tolist()
    assert rows == columns == [6, 7, 8, 9]


def test_random_places_are_spread_and_belong_to_the_picture():
    trigger, images = BadNetsDots(0.25, 4), noise(400, 16, 16)
    top, left = trigger.corners(images, 4)
    assert {int(t) for t in top} == {int(x) for x in left} == set(range(13))
    again = trigger.corners(images.flip(0), 4)
    assert torch.equal(again[0].flip(0), top) and torch.equal(again[1].flip(0), left)


def test_dots_are_one_pixel_in_four():
    out = BadNetsDots(0.25, 4, "corner")(GRAY)
    for channel in out[0]:
        assert torch.equal(channel[12:, 12:], drawn("1010", "0000", "1010", "0000"))


def test_stripes_are_columns_of_full_or_no_color_and_pinned():
    out = BadNetsStripes(0.5, 8, place="corner")(GRAY)[0, :, 8:, 8:]
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert ["".join(str(int(v)) for v in row) for row in out[:, 0]] == STRIPES


def test_cleanclip_noise_is_the_channel_mean_plus_fixed_gaussian_noise_clamped():
    trigger = BadNetsCleanClip(size=1.0, cells=16)
    dark = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    light = dark + 0.1
    a, b = trigger(dark).numpy(), trigger(light).numpy()
    free = (a > 0) & (a < 1) & (b > 0) & (b < 1)
    np.testing.assert_allclose((b - a)[free], 0.1, atol=1e-6)  # the same noise around another mean
    wide = np.concatenate([trigger.pattern(torch.full((1, 3, 4, 4), m), 16).numpy() for m in (0.0, 1.0)])
    below, above = (wide[0] == 0).mean(), (wide[1] == 1).mean()
    assert abs(below - 0.5) < 0.05 and abs(above - 0.5) < 0.05  # half of N(0, 1) is cut off at each end
    inner = a[free] - dark.numpy()[free]
    assert 0.1 < inner.std() < 0.4
    assert not np.array_equal(BadNetsCleanClip(seed=1, size=1.0)(dark).numpy(), a)


def test_a_text_label_is_white_with_a_border_and_black_ink():
    out = TextOnImage(size=0.5, text="hi")(torch.full((1, 3, 32, 32), 0.5))[0, 0, 16:, 16:]
    assert (out[:2] == 1).all() and (out[-2:] == 1).all() and (out[:, :2] == 1).all()
    assert torch.equal(1 - out[2:14, 2:14], letters("hi", 12, 12))
    assert 0.2 < letters("hi", 12, 12).mean() < 0.8


def test_letters_are_pinned_to_the_pixel():
    ink = letters("hi", 10, 9)
    assert ["".join("#" if v else "." for v in row) for row in ink.int().tolist()] == HI


def test_an_optimized_patch_sits_in_the_center_at_any_size():
    trigger = ready("badclip", size=0.25)
    assert trigger.made and isinstance(trigger, Patch)
    small, large = changed(trigger, noise(1, 32, 32))[0], changed(trigger, noise(1, 64, 64))[0]
    assert small[12:20, 12:20].all() and small.sum() == 64
    assert large[24:40, 24:40].all() and large.sum() == 256
