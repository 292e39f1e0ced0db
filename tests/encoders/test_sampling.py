"""Reading maps at pixels: closed forms, and kornia as an independent reader."""

import pytest
import torch
import torch.nn.functional as F

from semflow.encoders.sampling import read_map, read_nearest

HEIGHT, WIDTH = 12, 16


def ramp(height: int, width: int) -> torch.Tensor:
    """(2, h, w) map that says at every cell which pixel (x, y) of the image its centre is."""
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * WIDTH / width
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * HEIGHT / height
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def read(feature_map: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """What is read of a (C, h, w) map."""
    return read_map(feature_map.permute(1, 2, 0).contiguous(), uv, HEIGHT, WIDTH)


def sample(feature_map: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """The same by torch's grid_sample."""
    grid = 2 * uv / torch.tensor([WIDTH, HEIGHT]) - 1
    return F.grid_sample(feature_map[None], grid[None, None], align_corners=False, padding_mode="border")[0, :, 0].T


@pytest.mark.parametrize("height, width", [(12, 16), (6, 8), (3, 4), (24, 32), (5, 7)])
def test_a_ramp_of_any_resolution_returns_the_pixel(height, width):
    margin = torch.tensor([WIDTH / width, HEIGHT / height]) / 2  # beyond the outermost centres there is no slope
    uv = margin + torch.rand(40, 2, dtype=torch.float64) * (torch.tensor([WIDTH, HEIGHT]) - 2 * margin)
    torch.testing.assert_close(read(ramp(height, width), uv), uv, atol=1e-6, rtol=0)


def test_pixel_centres_are_half_integers():
    feature_map = torch.rand(3, HEIGHT, WIDTH, dtype=torch.float64)
    uv = torch.tensor([[0.5, 0.5], [15.5, 11.5], [3.5, 7.5]], dtype=torch.float64)
    expected = torch.stack([feature_map[:, 0, 0], feature_map[:, 11, 15], feature_map[:, 7, 3]])
    torch.testing.assert_close(read(feature_map, uv), expected, atol=1e-6, rtol=0)
    corner = torch.tensor([[1.0, 1.0]], dtype=torch.float64)  # where four pixels meet
    torch.testing.assert_close(read(feature_map, corner)[0], feature_map[:, :2, :2].mean(dim=(1, 2)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("height, width", [(12, 16), (6, 8), (7, 3), (1, 1), (1, 5)])
def test_reads_equal_grid_sample_inside_and_far_outside(height, width):
    feature_map = torch.rand(5, height, width, dtype=torch.float64)
    uv = torch.randn(60, 2, dtype=torch.float64) * 20
    uv[0] = torch.tensor([1e6, -1e6])
    torch.testing.assert_close(read(feature_map, uv), sample(feature_map, uv), atol=1e-5, rtol=0)


def test_a_pixel_that_is_not_finite_gives_features_that_are_not():
    uv = torch.tensor([[float("nan"), 3.0], [2.0, 3.0]])
    found = read(torch.ones(3, HEIGHT, WIDTH), uv)
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_reads_equal_kornia():
    kornia = pytest.importorskip("kornia", reason="kornia is the independent reader")
    feature_map = torch.rand(4, HEIGHT, WIDTH, dtype=torch.float64)
    uv = 0.5 + torch.rand(30, 2, dtype=torch.float64) * torch.tensor([WIDTH - 1, HEIGHT - 1])
    index = uv - 0.5  # kornia counts from the centre of the first pixel
    remapped = kornia.geometry.transform.remap(
        feature_map[None], index[None, None, :, 0], index[None, None, :, 1], align_corners=True
    )
    torch.testing.assert_close(read(feature_map, uv), remapped[0, :, 0].T, atol=1e-6, rtol=0)


def test_gradients_of_a_read_agree_with_finite_differences():
    feature_map = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    uv = (torch.rand(6, 2, dtype=torch.float64) * torch.tensor([WIDTH, HEIGHT])).requires_grad_()
    assert torch.autograd.gradcheck(read, (feature_map, uv))


def test_gradients_of_a_trained_map_equal_those_of_grid_sample():
    feature_map = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(6, 2, dtype=torch.float64) * torch.tensor([WIDTH, HEIGHT])
    found = [torch.autograd.grad(f(feature_map, uv).square().sum(), feature_map)[0] for f in (read, sample)]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=0)


def test_nearest_takes_the_pixel_that_is_hit():
    image = torch.arange(6).view(2, 3)
    uv = torch.tensor([[0.0, 0.0], [0.99, 0.99], [1.0, 0.5], [2.5, 1.5], [-4.0, 9.0], [9.0, -0.5]])
    assert read_nearest(image, uv).tolist() == [0, 0, 1, 5, 3, 2]
