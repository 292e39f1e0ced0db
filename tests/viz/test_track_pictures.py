"""Pictures of tracks: points where they belong, in colours that tell places apart, trails only where seen."""

import numpy as np
import torch

from semflow.viz.tracks import draw_points, draw_trails, enlarged, gradient_colors

BLACK = np.zeros((60, 640, 3), np.uint8)
RED = np.array([[255, 0, 0]], np.uint8)


def test_colours_differ_along_both_axes_and_one_point_has_one():
    colors = gradient_colors(torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])).astype(int)
    assert colors[0].tolist() == [255, 0, 0]
    distances = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert (distances[~np.eye(4, dtype=bool)] > 60).all()
    assert gradient_colors(torch.tensor([[3.0, 4.0]])).tolist() == [[255, 0, 0]]


def test_a_point_is_drawn_at_its_pixel_and_only_if_visible():
    uv = torch.tensor([[100.5, 20.5], [300.5, 40.5]])
    picture = draw_points(BLACK, uv, torch.tensor([True, False]), np.repeat(RED, 2, 0), radius=2)
    rows, columns = picture[..., 0].nonzero()
    assert picture[20, 100].tolist() == [255, 0, 0] and abs(rows.mean() - 20) < 0.5 and abs(columns.mean() - 100) < 0.5
    assert np.ptp(rows) <= 6
    assert not BLACK.any()  # the picture underneath is left as it was


def test_small_pictures_are_enlarged_by_a_whole_factor():
    small = np.zeros((30, 100, 3), np.uint8)
    big, factor = enlarged(small)
    assert factor == 7 and big.shape == (210, 700, 3)
    picture = draw_points(small, torch.tensor([[50.5, 10.5]]), torch.tensor([True]), RED)
    rows, columns = picture[..., 0].nonzero()
    assert abs(rows.mean() / 7 - 10) < 0.6 and abs(columns.mean() / 7 - 50) < 0.6


def test_a_trail_is_broken_where_the_point_is_hidden():
    uv = torch.tensor([[[100.5, 20.5], [200.5, 20.5], [300.5, 20.5], [400.5, 20.5]]])
    picture = draw_trails(BLACK, uv, torch.tensor([[True, True, False, True]]), RED)
    assert picture[20, 150, 0] and not picture[20, 210:390].any() and picture[20, 400, 0]
    far = draw_trails(BLACK, 1e9 * uv, torch.ones(1, 4, dtype=torch.bool), RED)
    assert far.shape == BLACK.shape
