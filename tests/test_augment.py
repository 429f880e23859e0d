"""Augmentation: what it changes, and that its generator alone decides."""

import torch

from ubt_utils.clip.augment import augment
from ubt_utils.core.seeding import generator


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
