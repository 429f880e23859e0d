"""The wide depthwise convolution: torch's own numbers, forward and backward, and what it leaves to torch."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ubt_utils.clip import models, towers
from ubt_utils.kernels import depthwise
from ubt_utils.kernels.depthwise import Depthwise, WideDepthwise, fits


def conv(channels: int = 6, side: int = 5, **other) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, side, **{"padding": side // 2, "groups": channels, "bias": False, **other}
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3, 5, 7])
)
def test_it_is_the_convolution_and_its_gradients_are_those_of_finite_differences(
    batch, channels, height, width, side
):
    draw = torch.Generator().manual_seed(batch * 1000 + channels * 100 + height * 10 + width)
    x = torch.randn(batch, channels, height, width, generator=draw, dtype=torch.double, requires_grad=True)
    w = torch.randn(channels, 1, side, side, generator=draw, dtype=torch.double, requires_grad=True)
    expected = nn.functional.conv2d(x, w, padding=side // 2, groups=channels)
    assert torch.equal(Depthwise.apply(x, w), expected)
    assert torch.autograd.gradcheck(Depthwise.apply, (x, w))


def gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    (layer(x) * torch.linspace(-1, 1, x.numel()).view(x.shape)).sum().backward()
    return [x.grad, layer.weight.grad]


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("map_side", [3, 4, 6])
def test_a_layer_gives_what_torch_gives_whichever_pass_it_takes(form, map_side, monkeypatch):
    plain = conv(32).to(memory_format=form)
    own = WideDepthwise.of(copy.deepcopy(plain))
    x = torch.randn(16, 32, map_side, map_side).contiguous(memory_format=form)
    assert torch.equal(own(x), plain(x))
    taken = []
    monkeypatch.setattr(depthwise, "_of_taps", lambda *a, do=depthwise._of_taps: taken.append(1) or do(*a))
    for found, expected in zip(gradients(own, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert bool(taken) == (map_side < 5)  # where the kernel is wider than the map


def test_it_has_the_parameters_of_the_other_not_copies():
    plain = conv().eval()
    own = WideDepthwise.of(plain)
    assert own.weight is plain.weight and not own.training and list(own.state_dict()) == ["weight"]


def test_what_asks_for_no_gradient_gets_none():
    w = torch.randn(4, 1, 5, 5)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    Depthwise.apply(x, w).sum().backward()
    assert x.grad is not None and w.grad is None


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(6, 6, 5, padding=2, groups=3, bias=False),
        conv(stride=2),
        conv(padding=0),
        conv(bias=True),
        conv(dilation=2, padding=4),
        conv(padding_mode="circular"),
        conv(side=4),
        nn.Linear(2, 2),
    ],
)
def test_other_layers_are_left_to_torch(other):
    assert not fits(other)
    with pytest.raises(ValueError, match="no depthwise convolution"):
        WideDepthwise.of(other)


def test_under_autocast_torch_does_it(monkeypatch):
    monkeypatch.setattr(Depthwise, "apply", lambda *_: pytest.fail("taken"))
    own = WideDepthwise.of(conv())
    with torch.autocast("cpu", torch.bfloat16):
        assert own(torch.randn(2, 6, 3, 3)).dtype == torch.bfloat16


def test_locking_quickens_what_stays_free_and_keeps_every_name_and_weight():
    before = models.create("ubt-photos", 0)
    held = before.state_dict()
    after = towers.lock(copy.deepcopy(before), 5)
    found = after.state_dict()
    assert list(found) == list(held) and all(torch.equal(found[k], held[k]) for k in held)
    quick = [n for n, part in after.visual.named_modules() if isinstance(part, WideDepthwise)]
    assert quick == [f"trunk.blocks.{i}.{j}.conv_dw" for i, j in ((5, 1), (5, 2), (5, 3), (6, 0))]
