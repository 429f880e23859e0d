"""Pairs, captions and their noise, augmentation."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.clip.augment import augment
from ubt_utils.core.seeding import generator
from ubt_utils.data.captions import TEMPLATES, fill, misplace_captions
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.zero_shot import ZeroShot, target_index

PIXELS = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


def numbered(n: int) -> Pairs:
    return Pairs(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), tuple(f"caption {i}" for i in range(n)))


# Pairs


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"images": PIXELS.float()}, "uint8"),
        ({"images": PIXELS[:, :1]}, "3, H, W"),
        ({"images": PIXELS[0]}, "3, H, W"),
        ({"captions": ("one",)}, "2 images but 1 captions"),
        ({"labels": torch.arange(3)}, "3 labels for 2 pairs"),
        ({"sources": ("a", "b", "c")}, "3 sources for 2 pairs"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        Pairs(**{"images": PIXELS, "captions": ("one", "two")} | fields)


def test_take_keeps_picture_caption_label_and_source_together(pairs):
    some = pairs.take([5, 2, 5])
    assert len(some) == 3
    assert torch.equal(some.images[0], pairs.images[5]) and torch.equal(some.images[1], pairs.images[2])
    assert some.captions == (pairs.captions[5], pairs.captions[2], pairs.captions[5])
    assert some.labels.tolist() == [5, 2, 5] and some.sources == ("made/5", "made/2", "made/5")


def test_take_works_without_labels_and_sources():
    some = numbered(4).take(torch.tensor([3]))
    assert some.captions == ("caption 3",) and some.labels is None and some.sources == ()


def test_take_does_not_read_a_mask_as_indices(pairs):
    mask = torch.zeros(24, dtype=torch.bool)
    mask[7] = True
    try:
        taken = pairs.take(mask)
    except (TypeError, ValueError):
        return  # refusing is fine
    assert taken.captions == (pairs.captions[7],)


def test_the_digest_sees_every_bit_of_picture_and_caption(pairs):
    digests = {pairs.digest()}
    changed = pairs.images.clone()
    changed[-1, -1, -1, -1] ^= 1
    digests.add(replace(pairs, images=changed).digest())
    digests.add(pairs.with_captions((*pairs.captions[:-1], pairs.captions[-1] + " ")).digest())
    digests.add(pairs.take(list(range(23, -1, -1))).digest())
    digests.add(replace(pairs, images=pairs.images.reshape(24, 3, 20, 16)).digest())
    assert len(digests) == 5


def test_the_digest_depends_on_content_alone(pairs):
    strided = pairs.images.contiguous(memory_format=torch.channels_last)
    assert replace(pairs, images=strided).digest() == pairs.digest()


# Captions


def test_fill_writes_one_caption_per_name_with_varied_templates():
    told = fill(["fox"] * 200, 0, "purpose")
    assert set(told) == {t.format("fox") for t in TEMPLATES}
    assert fill(["fox"] * 200, 0, "purpose") == told != fill(["fox"] * 200, 1, "purpose")


@given(n=st.integers(4, 60), rate=st.floats(0.5, 0.99), seed=st.integers(0, 99))
def test_every_misplaced_caption_is_that_of_another_chosen_pair(n, rate, seed):
    pairs = numbered(n)
    noisy, chosen = misplace_captions(pairs, rate, seed)
    picked = chosen.tolist()
    assert len(picked) == round(rate * n) and picked == sorted(set(picked))
    moved = [i for i in range(n) if noisy.captions[i] != pairs.captions[i]]
    assert moved == picked
    assert {noisy.captions[i] for i in picked} == {pairs.captions[i] for i in picked}


def test_caption_noise_keeps_the_multiset_of_captions_and_the_pictures(pairs):
    repeated = pairs.with_captions(c.split()[-1] for c in pairs.captions)
    noisy, _ = misplace_captions(repeated, 0.5, 0)
    assert Counter(noisy.captions) == Counter(repeated.captions)
    assert torch.equal(noisy.images, pairs.images) and torch.equal(noisy.labels, pairs.labels)


def test_caption_noise_is_seeded(pairs):
    first, again, other = (misplace_captions(pairs, 0.5, seed)[0].captions for seed in (0, 0, 1))
    assert first == again != other


def test_no_noise_changes_nothing(pairs):
    noisy, chosen = misplace_captions(pairs, 0, 0)
    assert noisy.digest() == pairs.digest() and len(chosen) == 0


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_noise_rates_out_of_bounds_are_refused(pairs, rate):
    with pytest.raises(ValueError, match="caption noise"):
        misplace_captions(pairs, rate, 0)


def test_a_single_misplaced_caption_is_not_its_own():
    pairs = numbered(10)
    noisy, chosen = misplace_captions(pairs, 0.1, 0)
    assert all(noisy.captions[i] != pairs.captions[i] for i in chosen.tolist())


# The zero-shot task


def test_prompts_fill_every_template_with_every_name_of_the_class():
    task = ZeroShot(PIXELS, torch.arange(2), torch.arange(2), ("a", "b"), (("x",), ("y", "z")), 0)
    own = replace(task, templates=("one {}", "two {}"))
    assert own.prompts() == [["one x", "two x"], ["one y", "two y", "one z", "two z"]]
    assert [len(p) for p in task.prompts()] == [len(TEMPLATES), 2 * len(TEMPLATES)]


def test_a_target_that_is_no_class_is_named():
    assert target_index(("fox", "clock"), "clock") == 1
    with pytest.raises(ValueError, match="'ship' is not among the 2 classes"):
        target_index(("fox", "clock"), "ship")


# Augmentation


def test_augmentation_keeps_shape_and_range_and_changes_every_picture(pairs):
    images = pairs.images.float() / 255
    before = images.clone()
    out = augment(images, generator(0))
    assert out.shape == images.shape and out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, before)
    assert ((out - images).abs().mean(dim=(1, 2, 3)) > 0.01).all()


def test_without_pose_only_colors_change():
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 0.5 + 0.25
    out = augment(board.expand(8, 3, 16, 16), generator(0), pose=False)
    for color in (0.25, 0.75):  # equal pixels stay equal, wherever they are
        spots = out[:, :, board == color]
        assert (spots == spots[:, :, :1]).all()
    assert len(out[:, :, 0, 0].unique(dim=0)) == 8


def test_color_channels_leak_into_each_other_a_little():
    images = torch.full((8, 3, 1, 2), 0.5)
    images[:, 1, 0, 1] = 0.8  # the second pixel has more green
    red, green, _ = augment(images, generator(0), pose=False).unbind(1)
    assert ((red[:, 0, 1] - red[:, 0, 0]).abs() > 1e-4).all()
    assert (green[:, 0, 1] - green[:, 0, 0] > 0.1).all()


def test_augmentation_follows_its_generator_alone(pairs):
    images = pairs.images.float() / 255
    torch.manual_seed(0)
    first = augment(images, generator(0, "augment", 5))
    torch.manual_seed(1)
    assert torch.equal(augment(images, generator(0, "augment", 5)), first)
    assert not torch.equal(augment(images, generator(0, "augment", 6)), first)


def test_augmentation_treats_each_picture_differently():
    same = torch.rand(1, 3, 12, 12).expand(4, -1, -1, -1)
    out = augment(same, generator(0))
    assert all(not torch.allclose(out[i], out[j], atol=0.01) for i in range(4) for j in range(i))


def test_a_small_change_of_pose_keeps_the_middle_of_the_picture():
    images = torch.zeros(64, 3, 33, 33)
    images[:, :, 8:25, 8:25] = 0.8  # 17 px: still covers the center after any shift and turn
    out = augment(images, generator(0))
    assert (out[:, :, 16, 16].mean() - out[:, :, 0, 0].mean()) > 0.5


# Seeds


def test_streams_depend_on_every_part_of_their_key():
    def draw(*key: object) -> list[float]:
        return torch.rand(3, generator=generator(*key)).tolist()

    assert draw(0, "a", 1) == draw(0, "a", 1)
    assert (
        len({tuple(draw(*key)) for key in [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a")]})
        == 5
    )
