"""The aligned resize against closed forms, and the clips that calibrate random encoders."""

import pytest
import torch

from semflow.encoders.frozen import measuring_norms, natural_clips, normalise_imagenet, resize_stage, seeded


def stage_of_ramp(stride: int, height: int, width: int) -> torch.Tensor:
    """What a stage that only looks at its centre pixel gives for an image whose value is its coordinate (x, y)."""
    rows = torch.arange(0, height, stride) + 0.5
    columns = torch.arange(0, width, stride) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y])[None]  # (1, 2, h', w')


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
@pytest.mark.parametrize("height, width", [(64, 96), (67, 45)])
def test_a_cell_holds_the_feature_of_its_own_place(stride, height, width):
    size = ((height + 1) // 2, (width + 1) // 2)
    maps = resize_stage(stage_of_ramp(stride, height, width), stride, (height, width), size)
    assert maps.shape == (1, *size, 2)
    x = ((torch.arange(size[1]) + 0.5) * width / size[1]).expand(size)
    y = ((torch.arange(size[0]) + 0.5) * height / size[0])[:, None].expand(size)
    last_x, last_y = (width - 1) // stride * stride + 0.5, (height - 1) // stride * stride + 0.5
    torch.testing.assert_close(maps[0, ..., 0], x.clamp(0.5, last_x))
    torch.testing.assert_close(maps[0, ..., 1], y.clamp(0.5, last_y))


def test_a_stage_of_one_cell_is_spread_over_the_map():
    maps = resize_stage(torch.full((2, 3, 1, 1), 4.0), 16, (9, 9), (5, 5))
    assert torch.equal(maps, torch.full((2, 5, 5, 3), 4.0))


def test_imagenet_mean_becomes_zero():
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise_imagenet(mean + std), torch.ones(1, 3, 1, 1))


def test_natural_clips_pan_and_follow_the_seed():
    with seeded(3):
        clips = natural_clips(2, 3, 32)
    with seeded(3):
        again = natural_clips(2, 3, 32)
    assert clips.shape == (2, 3, 3, 32, 32) and clips.min() >= 0 and clips.max() <= 1
    assert torch.equal(clips, again)
    assert torch.equal(clips[:, 1, ..., 2:], clips[:, 0, ..., :-2])


def test_norms_measure_within_the_block_only():
    layer = torch.nn.BatchNorm2d(1).eval()
    values = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    with measuring_norms(layer):
        layer(values)
    assert not layer.training and layer.momentum == 0.1
    torch.testing.assert_close(layer.running_mean, torch.tensor([2.0]))
    torch.testing.assert_close(layer.running_var, torch.tensor([2.0]))
    torch.testing.assert_close(layer(values).flatten(), torch.tensor([-1.0, 1.0]) / 2**0.5)
