"""The blockwise contrastive loss against open_clip's, in value and gradient."""

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.kernels.contrastive import blockwise_clip_loss


def drawn(n: int, width: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64):
    draw = torch.Generator().manual_seed(seed)
    unit = [
        torch.nn.functional.normalize(torch.randn(n, width, generator=draw, dtype=dtype), dim=1) for _ in "zt"
    ]
    return (*unit, torch.tensor(14.0, dtype=dtype))


def with_gradients(loss, images, texts, scale):
    given = [x.clone().requires_grad_() for x in (images, texts, scale)]
    value = loss(*given)
    return value, *torch.autograd.grad(2.5 * value, given)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_value_and_gradient_are_those_of_open_clip(n, rows, seed):
    pairs = drawn(n, seed=seed)
    ours = with_gradients(lambda *x: blockwise_clip_loss(*x, rows=rows), *pairs)
    theirs = with_gradients(open_clip.ClipLoss(), *pairs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_by_its_formula():
    images, texts, scale = drawn(7)
    logits = scale * images @ texts.T
    by_row, by_column = logits.softmax(1).diag().log(), logits.softmax(0).diag().log()
    torch.testing.assert_close(blockwise_clip_loss(images, texts, scale, 2), -(by_row + by_column).mean() / 2)


def test_large_logits_do_not_overflow():
    images, texts, _ = drawn(9, dtype=torch.float32)
    scale = torch.tensor(1e4)
    value = blockwise_clip_loss(images, texts, scale, 4)
    assert value.isfinite()
    torch.testing.assert_close(value, open_clip.ClipLoss()(images, texts, scale))


def test_half_precision_is_summed_in_single():
    images, texts, scale = (x.bfloat16() for x in drawn(33))
    value = blockwise_clip_loss(images, texts, scale, 8)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, open_clip.ClipLoss()(images.float(), texts.float(), scale.float()))


def test_under_autocast_it_stays_in_single():
    pairs = drawn(33, dtype=torch.float32)
    expected = with_gradients(lambda *x: blockwise_clip_loss(*x, rows=8), *pairs)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(lambda *x: blockwise_clip_loss(*x, rows=8), *pairs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_what_needs_no_gradient_gets_none():
    images, texts, scale = drawn(5)
    images.requires_grad_()
    blockwise_clip_loss(images, texts, scale).backward()
    assert images.grad is not None and texts.grad is None


@pytest.mark.parametrize(("n", "shape"), [(5, (3, 6)), (5, (5, 4)), (0, (0, 6))])
def test_pairs_that_do_not_fit_are_refused(n, shape):
    images, _, scale = drawn(5)
    with pytest.raises(ValueError, match="pairs of embeddings"):
        blockwise_clip_loss(images[:n], torch.zeros(shape, dtype=images.dtype), scale)
