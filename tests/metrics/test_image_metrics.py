"""PSNR and SSIM against closed forms and kornia; LPIPS only where it is at hand."""

import math
import sys
import types

import pytest
import torch

from semflow.metrics.image import LPIPS_WEIGHTS, PSNR_CAP, find_lpips, psnr, ssim


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(24, 31, 3, generator=generator)
    return (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1), truth


def test_psnr_of_a_constant_error_is_its_closed_form():
    truth = torch.full((4, 5, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)
    assert psnr(truth - 0.01, truth) == pytest.approx(40.0, abs=1e-3)


def test_psnr_of_identical_images_is_the_cap_and_finite():
    image = torch.rand(4, 5, 3)
    assert psnr(image, image) == PSNR_CAP
    assert psnr(image.double() + 1e-9, image) == PSNR_CAP
    assert math.isfinite(psnr(image, image))


def test_psnr_refuses_another_shape():
    with pytest.raises(ValueError, match="different shapes"):
        psnr(torch.zeros(1, 5, 3), torch.zeros(4, 5, 3))


def test_ssim_equals_kornia(images):
    metrics = pytest.importorskip("kornia.metrics")
    prediction, truth = images
    batch = [image.permute(2, 0, 1)[None].double() for image in images]
    expected = metrics.ssim(*batch, window_size=11, padding="valid").mean()
    assert ssim(prediction, truth) == pytest.approx(float(expected), abs=1e-6)


def test_ssim_of_constant_images_is_the_luminance_term():
    c1, low, high = 0.01**2, 0.2, 0.7
    expected = (2 * low * high + c1) / (low**2 + high**2 + c1)
    assert ssim(torch.full((12, 12, 3), low), torch.full((12, 12, 3), high)) == pytest.approx(expected, abs=1e-6)


def test_ssim_is_one_for_itself_and_symmetric(images):
    assert ssim(images[0], images[0]) == pytest.approx(1.0, abs=1e-12)
    assert ssim(*images) == pytest.approx(ssim(*reversed(images)), abs=1e-12)
    assert ssim(*images) < 0.99


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="smaller than the window"):
        ssim(torch.zeros(10, 30, 3), torch.zeros(10, 30, 3))


@pytest.fixture
def fresh_lpips(monkeypatch, tmp_path):
    """No cache of an earlier answer, and an empty torch hub folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    find_lpips.cache_clear()
    yield tmp_path
    find_lpips.cache_clear()


def test_lpips_without_the_package_says_so(monkeypatch, fresh_lpips):
    monkeypatch.setitem(sys.modules, "lpips", None)  # importing it fails
    found = find_lpips()
    assert found.distance is None and "not installed" in found.reason


class FakeNetwork(torch.nn.Module):
    """Mean absolute difference of two (1, 3, H, W) images in [-1, 1]."""

    def __init__(self, net: str, verbose: bool):
        super().__init__()

    def forward(self, x, y):
        return (x - y).abs().mean()


def test_lpips_without_weights_downloads_nothing_and_with_them_is_used(monkeypatch, fresh_lpips):
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=FakeNetwork))
    found = find_lpips()
    assert found.distance is None and LPIPS_WEIGHTS in found.reason
    find_lpips.cache_clear()
    weights = fresh_lpips / "checkpoints" / LPIPS_WEIGHTS
    weights.parent.mkdir()
    weights.touch()
    found = find_lpips()
    assert found.reason == ""
    assert found.distance(torch.full((4, 5, 3), 0.75), torch.full((4, 5, 3), 0.5)) == pytest.approx(0.5)
