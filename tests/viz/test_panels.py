"""Captions, grids, overlays and the training panel, pixel by pixel."""

import numpy as np
import pytest
import torch

from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import make_space
from semflow.records import LabelMap, SceneData, View
from semflow.viz import panels
from semflow.viz.flow_wheel import color_flow

H, W, T = 12, 20, 3
LABELS = LabelMap(("a", "b"), torch.tensor([[0, 0, 0], [200, 100, 0]], dtype=torch.uint8), (1,))


def flat(value: int, height: int = H, width: int = W) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def moving_cameras() -> Cameras:
    """Cameras that move to the right by 0.1 per frame."""
    c2w = torch.eye(4)[:3].repeat(T, 1, 1)
    c2w[:, 0, 3] = 0.1 * torch.arange(T)
    return Cameras(c2w, 20.0, H, W, torch.full((T,), 1.2), torch.full((T,), 4.0))


def scene() -> SceneData:
    """A wall at depth 2 seen by the moving cameras: the flow is -focal * 0.1 / 2 = -1 pixel everywhere."""
    cameras = moving_cameras()
    flow = torch.tensor([-1.0, 0.0]).repeat(T, H, W, 1)
    flow[-1] = 0
    valid = torch.ones(T, H, W, dtype=torch.bool)
    valid[-1] = False
    labels = torch.zeros(T, H, W, dtype=torch.int64)
    labels[0, :, : W // 2] = 1
    labels[1:] = -1
    return SceneData(
        name="wall", rgb=torch.full((T, H, W, 3), 0.5), cameras=cameras, space=make_space("ndc", cameras, False),
        disparity=torch.linspace(0, 1, W).expand(T, H, W), motion=labels == 1, flow_forward=flow,
        flow_forward_valid=valid, flow_backward=-flow.flip(0), flow_backward_valid=valid.flip(0), labels=labels,
        label_map=LABELS,
    )


def view(height: int = H, width: int = W) -> View:
    return View(
        rgb=torch.full((height, width, 3), 0.5), logits=torch.tensor([1.0, 0.0]).expand(height, width, 2),
        depth=torch.full((height, width), 2.0), flow=torch.zeros(height, width, 2),
        dynamic_opacity=torch.zeros(height, width),
    )


def tile(panel: np.ndarray, row: int, column: int, height: int = H, width: int = W) -> np.ndarray:
    bar = panels.caption_height(height)
    top, left = row * (height + bar + panels.GAP) + bar, column * (width + panels.GAP)
    return panel[top : top + height, left : left + width]


def test_caption_adds_a_bar_with_text_and_keeps_the_image():
    image = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    result = panels.caption(image, "depth")
    bar = result.shape[0] - 40
    assert bar == panels.caption_height(40) and (result[bar:] == image).all()
    assert result[:bar].max() > 150  # there is text
    assert (panels.caption(image, "")[:bar] == panels.BAR_COLOR).all()


def test_side_by_side_places_tiles_row_by_row():
    images = [(str(i), flat(40 * i)) for i in range(1, 6)]
    grid = panels.side_by_side(images, columns=3)
    bar = panels.caption_height(H)
    assert grid.shape == (2 * (H + bar) + panels.GAP, 3 * W + 2 * panels.GAP, 3)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        assert (tile(grid, row, column) == 40 * (i + 1)).all()
    assert (tile(grid, 1, 2) == panels.BAR_COLOR).all()
    assert panels.side_by_side(images).shape[1] == 5 * W + 4 * panels.GAP


def test_tiles_of_different_sizes_and_no_tiles_are_refused():
    with pytest.raises(ValueError, match="one size"):
        panels.side_by_side([("a", flat(0)), ("b", flat(0, H + 1))])
    with pytest.raises(ValueError, match="one size"):
        panels.side_by_side([])


def test_truth_takes_the_size_of_the_prediction():
    truth = flat(0, 4, 4)
    truth[:, 2:] = 255
    (_, prediction), (name, resized) = panels.truth_beside_prediction("rgb", flat(7, 8, 8), truth)
    assert name == "rgb: truth" and (prediction == 7).all()
    assert resized.shape == (8, 8, 3) and (resized[:, :4] == 0).all() and (resized[:, 4:] == 255).all()


@pytest.mark.parametrize(("alpha", "value"), [(0.0, 100), (1.0, 200), (0.25, 125)])
def test_overlay_mixes_by_alpha(alpha, value):
    assert (panels.overlay(flat(100), flat(200), alpha) == value).all()


def test_training_panel_puts_truth_beside_prediction():
    data = scene()
    panel = panels.training_panel(view(), data, 0)
    assert panel.dtype == np.uint8
    assert (tile(panel, 0, 0) == 128).all() and (tile(panel, 0, 1) == 128).all()
    assert (tile(panel, 0, 2) == 0).all()  # every pixel is predicted as class a
    assert (tile(panel, 0, 3)[:, : W // 2] == [200, 100, 0]).all() and (tile(panel, 0, 3)[:, W // 2 :] == 0).all()
    assert np.ptp(tile(panel, 1, 0)) == np.ptp(tile(panel, 1, 0)[0, 0])  # constant depth is one colour
    assert np.ptp(tile(panel, 1, 1)[0].astype(int), axis=0).max() > 100  # the given disparity is a ramp
    assert (tile(panel, 2, 0) == 0).all() and (tile(panel, 2, 1)[:, : W // 2] == 255).all()


def test_flow_of_a_still_wall_looks_like_the_given_flow():
    """The view holds the scene's motion (none); the given flow also holds the camera's."""
    panel = panels.training_panel(view(), scene(), 0)
    expected = color_flow(scene().flow_forward[0], 1.0)
    assert np.abs(tile(panel, 1, 3).astype(int) - expected).max() <= 1
    assert np.abs(tile(panel, 1, 2).astype(int) - expected).max() <= 2


def test_last_frame_has_no_given_flow_and_unlabelled_frames_are_grey():
    panel = panels.training_panel(view(), scene(), T - 1)
    assert (tile(panel, 1, 3) == 128).all()
    assert (tile(panel, 1, 2) == 255).all()  # no motion
    assert (tile(panel, 0, 3) == 128).all()


def test_small_view_is_enough_and_flow_colours_do_not_depend_on_its_size():
    panel = panels.training_panel(view(H // 2, W // 2), scene(), 0)
    given, rendered = (tile(panel, 1, c, H // 2, W // 2).astype(int) for c in (3, 2))
    assert np.abs(given - rendered).max() <= 2


def test_quantities_that_were_not_rendered_are_left_out():
    panel = panels.training_panel(View(rgb=torch.zeros(H, W, 3)), scene(), 0)
    assert panel.shape[1] == 2 * W + panels.GAP
    with pytest.raises(ValueError):
        panels.training_panel(View(), scene(), 0)
