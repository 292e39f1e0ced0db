"""The colour wheel at its cardinal points."""

import numpy as np
import pytest
import torch

from semflow.viz.flow_wheel import color_flow, color_wheel, flow_scale


def test_wheel_has_the_published_steps_and_pure_colours():
    wheel = color_wheel()
    assert wheel.shape == (55, 3)
    pure = {0: (1, 0, 0), 15: (1, 1, 0), 21: (0, 1, 0), 25: (0, 1, 1), 36: (0, 0, 1), 49: (1, 0, 1)}
    for index, color in pure.items():
        np.testing.assert_allclose(wheel[index], color, atol=1e-12)
    assert np.abs(np.diff(np.concatenate([wheel, wheel[:1]]), axis=0)).max() <= 0.25 + 1e-9  # no jump, the wheel closes


def test_no_motion_is_white_and_right_is_red():
    image = color_flow(torch.tensor([[[0.0, 0.0], [4.0, 0.0], [2.0, 0.0]]]), scale=4.0)
    assert image[0].tolist() == [[255, 255, 255], [255, 0, 0], [255, 128, 128]]


@pytest.mark.parametrize(("vector", "strong", "weak"), [
    ((0.0, 1.0), (0, 1), 2),  # down: yellow
    ((-1.0, 0.0), (1, 2), 0),  # left: between cyan and blue
    ((0.0, -1.0), (2,), 1),  # up: between blue and magenta
])
def test_hue_is_the_direction(vector, strong, weak):
    color = color_flow(torch.tensor([[vector]]), scale=1.0)[0, 0]
    assert all(color[c] > color[weak] + 90 for c in strong)


def test_longer_than_the_scale_is_darker_and_nan_is_black():
    image = color_flow(torch.tensor([[[9.0, 0.0], [float("nan"), 0.0]]]), scale=1.0)
    assert image[0].tolist() == [[191, 0, 0], [0, 0, 0]]


def test_colours_are_continuous_across_the_cut():
    above, below = color_flow(torch.tensor([[[1.0, -1e-4], [1.0, 1e-4]]]), scale=1.0)[0].astype(int)
    assert np.abs(above - below).max() <= 1


def test_scale_is_nearly_the_longest_vector():
    flow = torch.zeros(100, 100, 2)
    flow[:10] = torch.tensor([3.0, 4.0])
    flow[99, 99] = 1e6
    flow[99, 98] = float("inf")
    assert flow_scale(flow) == pytest.approx(5.0)
    assert flow_scale(torch.zeros(3, 3, 2)) > 0
    assert flow_scale(torch.zeros(0, 2)) > 0
