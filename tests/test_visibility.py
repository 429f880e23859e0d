"""Stealth measures against Pillow, SciPy and NumPy; what JPEG and resizing do."""

import io
import math

import numpy as np
import pytest
import torch
from drawn import noise, stored
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from ubt_utils.attacks import robustness, visibility
from ubt_utils.clip import models


def two(seed: int = 0, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and slightly changed ones."""
    a = noise(3, side, side, seed)
    return a, (a + 0.1 * (noise(3, side, side, seed + 1) - 0.5)).clamp(0, 1)


def test_psnr_of_one_level_everywhere_is_20_log_255():
    clean = torch.full((2, 3, 8, 8), 0.5)
    assert visibility.psnr(clean, clean + 1 / 255).tolist() == pytest.approx(
        [20 * math.log10(255)] * 2, abs=1e-3
    )
    assert visibility.psnr(clean, clean).tolist() == [math.inf] * 2


def test_ssim_is_wangs_formula_as_scipy_computes_it():
    clean, stamped = two()
    values = []
    for x, y in zip(clean[0].double().numpy(), stamped[0].double().numpy(), strict=True):
        blur = lambda v: gaussian_filter(v, 1.5, radius=5)[5:-5, 5:-5]  # noqa: E731
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        top = (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
        values.append((top / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))).mean())
    assert visibility.ssim(clean, stamped)[0].item() == pytest.approx(np.mean(values), abs=1e-9)
    assert visibility.ssim(clean, clean).tolist() == pytest.approx([1.0] * 3)


def test_gmsd_is_the_deviation_of_prewitt_gradient_similarity():
    clean, stamped = two()

    def gradient(image: np.ndarray) -> np.ndarray:
        gray = np.tensordot([0.299, 0.587, 0.114], image, 1).reshape(16, 2, 16, 2).mean((1, 3))
        across = np.array([[1, 0, -1]] * 3) / 3
        return np.hypot(convolve(gray, across, mode="constant"), convolve(gray, across.T, mode="constant"))

    a, b = gradient(clean[0].double().numpy()), gradient(stamped[0].double().numpy())
    c = 170 / 255**2
    expected = ((2 * a * b + c) / (a * a + b * b + c)).std()
    assert visibility.gmsd(clean, stamped)[0].item() == pytest.approx(expected, abs=1e-9)
    assert visibility.gmsd(clean, clean).tolist() == pytest.approx([0.0] * 3)


def test_more_change_is_worse_by_every_measure():
    clean, weak = two()
    strong = (clean + 4 * (weak - clean)).clamp(0, 1)
    assert (visibility.psnr(clean, weak) > visibility.psnr(clean, strong)).all()
    assert (visibility.ssim(clean, weak) > visibility.ssim(clean, strong)).all()
    assert (visibility.gmsd(clean, weak) < visibility.gmsd(clean, strong)).all()


def test_all_measures_together_leave_unchanged_pictures_out_of_psnr():
    model, clean = models.create("ubt-tiny", 0), stored(4, 32, 32)
    stamped = clean.clone()
    stamped[:2] = 255 - stamped[:2]
    found = visibility.measure(model, clean, stamped)
    x, y = clean.float() / 255, stamped.float() / 255
    assert found["psnr"] == pytest.approx(visibility.psnr(x[:2], y[:2]).mean().item())
    z = models.embed_images(model, clean), models.embed_images(model, stamped)
    assert found["clip_similarity"] == pytest.approx((z[0] * z[1]).sum(1).mean().item())
    assert visibility.measure(model, clean, clean)["psnr"] == math.inf


@pytest.mark.parametrize("measure", [visibility.psnr, visibility.ssim, visibility.gmsd])
def test_measures_refuse_what_cannot_be_compared(measure):
    with pytest.raises(ValueError, match="clean pictures are"):
        measure(noise(2, 16, 16), noise(2, 16, 17))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        measure(noise(1, 16, 16) * 2, noise(1, 16, 16))


def test_ssim_refuses_pictures_smaller_than_its_window():
    with pytest.raises(ValueError, match="at least 11 px"):
        visibility.ssim(noise(1, 10, 40), noise(1, 10, 40))


# JPEG and resizing


@pytest.mark.parametrize("quality", [95, 30])
def test_jpeg_is_what_pillow_stores(quality):
    smooth = (noise(1, 6, 6).repeat_interleave(8, 2).repeat_interleave(8, 3) * 255).to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth[0].permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    expected = np.asarray(Image.open(buffer)).astype(int)
    got = robustness.jpeg(smooth, quality)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(got - expected).mean() < 1.5 and got.shape == expected.shape


def test_lower_quality_changes_more():
    images = stored(2, 32, 32)
    errors = [
        (robustness.jpeg(images, q).int() - images.int()).abs().float().mean() for q in robustness.QUALITIES
    ]
    assert errors == sorted(errors) and errors[0] > 0


def test_resizing_keeps_flat_pictures_and_washes_out_fine_patterns():
    flat = torch.full((1, 3, 24, 24), 77, dtype=torch.uint8)
    assert torch.equal(robustness.resize(flat, 0.5), flat)
    checker = ((torch.arange(24)[:, None] + torch.arange(24)) % 2 * 255).to(torch.uint8).expand(1, 3, 24, 24)
    assert (robustness.resize(checker, 0.5)[:, :, 2:-2, 2:-2].int() - 128).abs().max() <= 1
    assert torch.equal(robustness.resize(checker, 1.0), checker)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_jpeg_refuses_impossible_qualities(quality):
    with pytest.raises(ValueError, match=r"1\.\.100"):
        robustness.jpeg(stored(1, 8, 8), quality)


@pytest.mark.parametrize("scale", [0, -1, 1.1])
def test_resize_refuses_impossible_scales(scale):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        robustness.resize(stored(1, 8, 8), scale)
