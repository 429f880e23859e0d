"""A depthwise convolution whose kernel is wider than its map, such as 5×5 on 3×3: its backward pass.

There a library's pass for the weights falls back to a form that is many times slower than the forward one. A
map of so few places has few pairs (place of the input, place of the output): the gradient of all of them, a
sum over the batch, is gathered into the taps that they belong to. The forward pass is the library's own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


class Depthwise(torch.autograd.Function):
    """images (B, C, H, W), weight (C, 1, k, k) with k odd → (B, C, H, W): stride 1, k // 2 zeros around. No
    second derivative."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See the class."""
        ctx.save_for_backward(images, weight)
        return _convolved(images, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, moved: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """moved: (B, C, H, W), the gradient of what came out."""
        images, weight = ctx.saved_tensors
        of_images, of_weight = ctx.needs_input_grad
        return (
            _convolved(moved, weight.flip(2, 3)) if of_images else None,
            _of_taps(images, moved, weight) if of_weight else None,
        )


def _convolved(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return nn.functional.conv2d(images, weight, padding=weight.shape[-1] // 2, groups=len(weight))


def _of_taps(images: torch.Tensor, moved: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(C, 1, k, k), the gradient of the weight."""
    before, after = _by_place(images), _by_place(moved)
    met = torch.stack([(before * after[:, [place]]).sum(0) for place in range(after.shape[1])])
    taps = _taps(*images.shape[-2:], weight.shape[-1]).to(met) @ met.flatten(0, 1)  # (k², C)
    return taps.t().reshape(weight.shape)


def _by_place(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) → (B, H · W, C)."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


@lru_cache(maxsize=8)
def _taps(height: int, width: int, side: int) -> torch.Tensor:
    """(k², P · P) for P = H · W places: 1 where a place of the output (slow) takes a place of the input
    (fast) through that tap."""
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    gap = (places[None] - places[:, None] + side // 2).flatten(0, 1)  # (P · P, 2), rows and columns apart
    inside = ((gap >= 0) & (gap < side)).all(1)
    tap = torch.where(inside, gap[:, 0] * side + gap[:, 1], -1)
    return (tap == torch.arange(side * side)[:, None]).float()


class WideDepthwise(nn.Conv2d):
    """A depthwise convolution that learns by `Depthwise` where its kernel is wider than the map, on a CPU in
    single precision; elsewhere as torch does."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> WideDepthwise:
        """One with the parameters of `conv` itself, not copies. ValueError for a convolution of another
        kind than `fits` says."""
        if not fits(conv):
            raise ValueError(f"no depthwise convolution of stride 1 with zeros around: {conv}")
        own = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding,
            groups=conv.groups, bias=False, device="meta",
        )  # fmt: skip
        own.weight = conv.weight
        return own.train(conv.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        plain = input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if plain and self.weight.requires_grad and self.kernel_size[0] > max(input.shape[-2:]):
            return Depthwise.apply(input, self.weight)
        return super().forward(input)


def fits(conv: nn.Module) -> bool:
    """Whether it is a plain depthwise convolution: one filter a channel, stride 1, an odd square kernel and
    half of it in zeros around, no bias."""
    if type(conv) is not nn.Conv2d or conv.bias is not None:
        return False
    side = conv.kernel_size[0]
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size == (side, side)
        and side % 2 == 1
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (side // 2, side // 2)
        and conv.padding_mode == "zeros"
    )
