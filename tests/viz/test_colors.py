"""Colours of quantities at values known in advance."""

import math

import cv2
import numpy as np
import torch

from semflow.records import LabelMap
from semflow.viz import colors

COLORS = torch.tensor([[0, 0, 0], [255, 0, 10], [0, 200, 30]], dtype=torch.uint8)
LABELS = LabelMap(("background", "ball", "box"), COLORS, (1,))


def lut(index: int, colormap: int = cv2.COLORMAP_TURBO) -> list[int]:
    return cv2.applyColorMap(np.array([[index]], dtype=np.uint8), colormap)[0, 0, ::-1].tolist()


def test_rgb_is_rounded_clipped_and_free_of_nan():
    image = colors.color_rgb(torch.tensor([[[0.0, 0.5, 1.0], [-3.0, 7.0, float("nan")]]]))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[0, 128, 255], [0, 255, 0]]]


def test_labels_take_the_colours_of_the_map_and_grey_where_there_is_none():
    image = colors.color_labels(torch.tensor([[1, 2], [0, -1]]), LABELS)
    assert image.dtype == np.uint8
    assert image.tolist() == [[[255, 0, 10], [0, 200, 30]], [[0, 0, 0], [128, 128, 128]]]


def test_scalars_run_through_the_colour_map_in_rgb_order():
    image = colors.color_scalar(torch.tensor([[2.0, 3.0, 4.0, -9.0, 99.0]]), 2.0, 4.0)[0].tolist()
    assert image == [lut(0), lut(128), lut(255), lut(0), lut(255)]
    assert lut(0)[2] > lut(0)[0] and lut(255)[0] > lut(255)[2]  # blue is low, red is high


def test_values_that_are_not_finite_are_black_and_an_empty_range_is_flat():
    image = colors.color_scalar(torch.tensor([[1.0, float("nan"), float("inf")]]), 0.0, 1.0)
    assert image[0, 1:].tolist() == [[0, 0, 0]] * 2
    assert colors.color_scalar(torch.tensor([[5.0, 6.0]]), 5.0, 5.0)[0].tolist() == [lut(0)] * 2


def test_depth_is_linear_in_inverse_depth():
    image = colors.color_depth(torch.tensor([[1.0, 4.0, 1.6, 1e6, 0.0]]), near=1.0, far=4.0)[0].tolist()
    assert image == [lut(255), lut(0), lut(128), lut(0), lut(255)]  # 1 / 1.6 lies halfway between 1 / 4 and 1


def test_disparity_ignores_scale_and_shift_and_outliers():
    values = torch.linspace(0, 1, 400).reshape(20, 20)
    spoiled = values.clone()
    spoiled[0, 0] = -1e9
    assert (colors.color_disparity(values) == colors.color_disparity(3 * values + 7)).all()
    assert (colors.color_disparity(spoiled)[5:15] == colors.color_disparity(values)[5:15]).mean() > 0.9


def test_entropy_ends_at_the_uniform_distribution():
    image = colors.color_entropy(torch.tensor([[0.0, math.log(3)]]), 3)[0].tolist()
    assert image == [lut(0, cv2.COLORMAP_INFERNO), lut(255, cv2.COLORMAP_INFERNO)]
    assert colors.color_entropy(torch.zeros(1, 2), 1)[0].tolist() == [lut(0, cv2.COLORMAP_INFERNO)] * 2


def test_shares_and_masks_are_grey():
    assert colors.color_share(torch.tensor([[0.0, 0.2, 1.0]])).tolist() == [[[0] * 3, [51] * 3, [255] * 3]]
    assert colors.color_share(torch.tensor([[False, True]])).tolist() == [[[0] * 3, [255] * 3]]
