"""Analytic pixel features against closed forms."""

import math

import pytest
import torch

from semflow.encoders.pixels import PixelEncoder, blur, gradient

BANDS, LOW, GRADIENTS = slice(3, 15), slice(15, 18), slice(18, 24)


def test_a_constant_image_has_only_colour():
    color = torch.tensor([0.2, 0.5, 0.9])
    maps = PixelEncoder()(color.view(1, 3, 1, 1).expand(2, 3, 24, 32)).maps
    assert maps.shape == (2, 24, 32, 24) and maps.is_contiguous()
    torch.testing.assert_close(maps[..., :3], ((color - 0.45) / 0.25).expand(2, 24, 32, 3))
    torch.testing.assert_close(maps[..., LOW], maps[..., :3], rtol=0, atol=1e-5)
    assert maps[..., BANDS].abs().max() < 1e-4 and maps[..., GRADIENTS].abs().max() < 1e-4


def test_bands_and_low_pass_add_up_to_the_image():
    frames = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    maps = PixelEncoder()(frames).maps
    deviations = torch.tensor([0.042, 0.026, 0.029, 0.035]).repeat_interleave(3)
    bands = (maps[..., BANDS] * deviations).unflatten(-1, (4, 3)).sum(dim=-2)
    rebuilt = bands + maps[..., LOW] * 0.25 + 0.45
    torch.testing.assert_close(rebuilt, frames.permute(0, 2, 3, 1), rtol=0, atol=1e-5)


def test_the_gradient_of_a_plane_is_its_slope():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    slopes = gradient((0.3 * x - 0.4 * y)[None, None])[0, :, 1:-1, 1:-1]
    expected = torch.tensor([0.3, -0.4, 0.5]).view(3, 1, 1).expand_as(slopes)
    torch.testing.assert_close(slopes, expected)


def test_blur_multiplies_a_wave_by_its_gaussian_response():
    sigma, frequency = 2.0, 2 * math.pi / 16
    wave = torch.cos(frequency * torch.arange(128.0)).expand(1, 1, 40, 128)
    ratio = blur(wave, sigma)[0, 0, 20, 32:96] / wave[0, 0, 20, 32:96]
    known = wave[0, 0, 20, 32:96].abs() > 0.1
    expected = math.exp(-0.5 * (sigma * frequency) ** 2)
    torch.testing.assert_close(ratio[known], torch.full_like(ratio[known], expected), rtol=0.02, atol=0)


@pytest.mark.parametrize("count, height, width", [(1, 45, 67), (5, 1, 1)])
def test_any_size(count, height, width):
    encoder = PixelEncoder()
    features = encoder(torch.rand(count, 3, height, width))
    assert features.maps.shape == (count, height, width, encoder.channels)
    assert features.code.shape == (encoder.code_channels,)
    assert torch.isfinite(features.maps).all()


def test_nothing_to_train():
    encoder = PixelEncoder()
    assert not encoder.trainable and not list(encoder.parameters()) and "no weights" in encoder.description()


def test_levels_of_the_pyramid_are_single_blurs_of_the_frame():
    """Variances add up: what is blurred step by step is as blurred as by one Gaussian."""
    frames = torch.rand(1, 3, 112, 120, generator=torch.Generator().manual_seed(0))
    maps = PixelEncoder()(frames).maps.permute(0, 3, 1, 2)
    inner = (..., slice(32, -32), slice(32, -32))  # borders are repeated once per step
    levels = [frames, *(blur(frames, sigma) for sigma in (1.0, 2.0, 4.0, 8.0))]
    for band, deviation in enumerate((0.042, 0.026, 0.029, 0.035)):
        expected = (levels[band] - levels[band + 1])[inner]
        found = deviation * maps[:, 3 + 3 * band:6 + 3 * band][inner]
        assert (found - expected).abs().max() < 0.03 * expected.abs().max()
    low = 0.25 * maps[:, LOW][inner] + 0.45
    assert (low - levels[-1][inner]).abs().max() < 0.03 * (levels[-1][inner] - 0.5).abs().max()
