"""Triangulation and calibration on a room whose depth and flow are known exactly."""

from dataclasses import replace

import pytest
import torch
from toys import make_scene, room_scene, turning_cameras

from semflow.geometry.spaces import camera_rays, make_space
from semflow.geometry.triangulation import Triangulation, calibrate, fit_affine, read_image, triangulate

NEAR, FAR = 0.5, 50.0


@pytest.fixture(scope="module")
def room():
    return room_scene(turning_cameras(5, 24, 32, focal=28.0))


def found_in(scene, reach: int = 4) -> Triangulation:
    return triangulate(scene.cameras, scene.flow_forward, scene.flow_forward_valid, scene.flow_backward,
                       scene.flow_backward_valid, scene.motion, reach)


def away_from_outlines(depth: torch.Tensor, reach: int = 3) -> torch.Tensor:
    """(T, H, W) bool: no other surface within `reach` pixels, where reading the flow in between would mix the two."""
    bend = torch.zeros_like(depth)
    bend[:, 1:-1] += (depth[:, 2:] + depth[:, :-2] - 2 * depth[:, 1:-1]).abs()
    bend[:, :, 1:-1] += (depth[:, :, 2:] + depth[:, :, :-2] - 2 * depth[:, :, 1:-1]).abs()
    near = torch.nn.functional.max_pool2d((bend > 0.05).float()[:, None], 2 * reach + 1, 1, reach)[:, 0]
    return near == 0


@pytest.mark.parametrize("reach", [0.12, 0.2, 0.4])
def test_depth_of_wall_and_ball_is_exact_from_neighbouring_frames(reach):
    """However small the parallax: a regularised solution would shorten the depths as the views come closer."""
    scene, depth = room_scene(turning_cameras(5, 24, 32, focal=28.0, reach=reach))
    found = found_in(scene, reach=1)
    error = (found.depth / depth - 1).abs()[found.valid]
    assert found.valid.float().mean() > 0.4
    assert error.max() < 1e-3 and error.median() < 1e-5


def test_chains_of_flow_keep_the_depth_within_a_thousandth(room):
    """Between pixels the flow is interpolated, which is almost exact but across outlines."""
    scene, depth = room
    found = found_in(scene)
    smooth = found.valid & away_from_outlines(depth)
    error = (found.depth / depth - 1).abs()
    assert found.valid.float().mean() > 0.9 and smooth.float().mean() > 0.3
    assert error[smooth].quantile(0.99) < 1e-3
    assert error[found.valid].quantile(0.9) < 1e-2


def test_moving_pixels_take_no_part(room):
    scene, _ = room
    motion = torch.zeros_like(scene.motion)
    motion[:, 8:14, 10:20] = True
    found = found_in(replace(scene, motion=motion))
    assert not found.valid[motion].any()
    assert found.valid[~motion].any()
    garbage = torch.where(motion[..., None], 7.0, scene.flow_forward)
    again = found_in(replace(scene, motion=motion, flow_forward=garbage))
    apart = torch.nn.functional.max_pool2d(motion.float()[:, None], 13, 1, 6)[:, 0] == 0  # no chain crosses the region
    torch.testing.assert_close(again.depth[apart], found.depth[apart])


def test_nothing_is_found_without_flow_parallax_or_agreement(room):
    scene, _ = room
    nothing = torch.zeros_like(scene.motion)
    assert not found_in(replace(scene, flow_forward_valid=nothing, flow_backward_valid=nothing)).valid.any()
    together, _ = room_scene(turning_cameras(5, 24, 32, focal=28.0, reach=0.001))
    assert not found_in(together).valid.any()
    noise = torch.randn(scene.flow_forward.shape, generator=torch.Generator().manual_seed(0)) * 6
    wrong = found_in(replace(scene, flow_forward=scene.flow_forward + noise, flow_backward=scene.flow_backward - noise))
    assert wrong.valid.float().mean() < 0.1


def test_depths_are_finite_where_nothing_is_known(room):
    scene, _ = room
    still = make_scene(scene.cameras, flow_forward_valid=~scene.motion, flow_backward_valid=~scene.motion)
    for found in (found_in(scene), found_in(still)):
        assert found.depth.isfinite().all() and (found.depth > 0).all()


def exact(depth: torch.Tensor) -> Triangulation:
    return Triangulation(depth, torch.ones_like(depth, dtype=torch.bool))


def test_calibration_undoes_scale_and_shift_of_each_frame(room):
    _, depth = room
    scale, shift = torch.tensor([300.0, 0.2, 40.0, 7.0, 1.0]), torch.tensor([40.0, -0.3, 0.0, 100.0, 2.0])
    disparity = scale[:, None, None] / depth + shift[:, None, None]
    found = calibrate(disparity, exact(depth), NEAR, FAR)
    assert found.calibrated.all()
    torch.testing.assert_close(found.depth, depth, rtol=1e-3, atol=0)
    assert found.error.max() < 1e-4


def test_calibration_shrugs_off_a_fifth_of_outliers(room):
    _, depth = room
    generator = torch.Generator().manual_seed(0)
    broken = torch.rand(depth.shape, generator=generator) < 0.2
    wrong = torch.where(broken, 0.7 * depth + 3 * torch.rand(depth.shape, generator=generator), depth)
    found = calibrate(300.0 / depth + 40.0, exact(wrong), NEAR, FAR)
    torch.testing.assert_close(found.depth, depth, rtol=2e-3, atol=0)


def test_frames_with_too_little_to_go_by_stay_uncalibrated(room):
    _, depth = room
    valid = torch.ones_like(depth, dtype=torch.bool)
    valid[1] = False
    valid[2] = False
    valid[2].view(-1)[:99] = True
    disparity = 300.0 / depth + 40.0
    disparity[3] = -disparity[3]  # the nearer the smaller: no inverse depth
    found = calibrate(disparity, Triangulation(depth, valid), NEAR, FAR)
    assert found.calibrated.tolist() == [True, False, False, False, True]
    assert found.depth.isfinite().all()
    assert found.error.isnan().tolist() == [False, True, True, True, False]
    torch.testing.assert_close(found.depth[4], depth[4], rtol=1e-3, atol=0)


def test_calibrated_depth_stays_within_the_bounds(room):
    _, depth = room
    found = calibrate(300.0 / depth + 40.0, exact(depth), near=3.5, far=4.5)
    assert 3.5 * 0.999 <= float(found.depth.min()) and float(found.depth.max()) <= 4.5 * 1.001


def test_affine_fit_by_hand():
    x = torch.arange(10.0)
    y = 2 * x - 1
    torch.testing.assert_close(fit_affine(x, y), torch.tensor([2.0, -1.0]))
    y[4], y[7] = 99.0, -50.0  # an L1 fit passes through all the others
    torch.testing.assert_close(fit_affine(x, y), torch.tensor([2.0, -1.0]), atol=1e-3, rtol=0)
    assert fit_affine(torch.full((10,), 3.0), x).isfinite().all()


def test_images_are_read_at_pixel_centres():
    image = torch.arange(12.0).view(3, 4, 1)
    uv = torch.tensor([[0.5, 0.5], [3.5, 2.5], [1.0, 0.5], [2.5, 2.0]])
    torch.testing.assert_close(read_image(image, uv)[:, 0], torch.tensor([0.0, 11.0, 0.5, 8.0]))


@pytest.mark.parametrize("kind", ["ndc", "ndc clipped", "metric"])
def test_the_parameter_of_a_point_on_a_ray_is_its_u(kind):
    cameras = turning_cameras(4)
    space = make_space(kind.split()[0], cameras, clip_to_bounds="clipped" in kind)
    generator = torch.Generator().manual_seed(3)
    points, expected = [], torch.rand(4, 30, 5, generator=generator)
    for frame, u in enumerate(expected):
        uv = torch.rand(30, 2, generator=generator) * torch.tensor([16.0, 12.0])
        points.append(camera_rays(cameras, space, frame, uv).at(u))
        torch.testing.assert_close(space.ray_parameter(points[-1], cameras, frame), u, atol=1e-5, rtol=0)
    together = space.ray_parameter(torch.stack(points).flatten(1, 2), cameras, None)
    torch.testing.assert_close(together, expected.flatten(1, 2), atol=1e-5, rtol=0)
