"""Camera paths: proper poses, end points, bounds of the motion, times."""

from itertools import combinations

import cv2
import numpy as np
import pytest
import torch

from semflow.geometry import trajectories
from semflow.geometry.cameras import Cameras
from semflow.geometry.poses import average_pose
from semflow.geometry.trajectories import PATHS, make_trajectory
from semflow.utils.errors import ConfigError

NEAR, FAR = 1.1, 3.0


def turn(x: float, y: float, z: float = 0.0) -> np.ndarray:
    return cv2.Rodrigues(np.array([x, y, z]))[0]


def make_cameras(poses: list[np.ndarray]) -> Cameras:
    bounds = torch.ones(len(poses))
    return Cameras(torch.tensor(np.stack(poses), dtype=torch.float32), 40.0, 18, 32, NEAR * bounds, FAR * bounds)


def arc_cameras(count: int = 9, distance: float = 2.0) -> Cameras:
    """Cameras on an arc that all look at (0, 0, -distance)."""
    poses = []
    for angle in np.linspace(-0.25, 0.25, count):
        centre = np.array([distance * np.sin(angle), 0.05 * np.cos(6 * angle), distance * np.cos(angle) - distance])
        back = centre - np.array([0, 0, -distance])
        back /= np.linalg.norm(back)
        right = np.cross([0, 1.0, 0], back)
        right /= np.linalg.norm(right)
        poses.append(np.stack([right, np.cross(back, right), back, centre], axis=-1))
    return make_cameras(poses)


def two_row_cameras() -> Cameras:
    """A parallel rig of two rows, as in recordings with an array of cameras."""
    xs = np.linspace(-0.3, 0.3, 5)
    centres = [(x, 0.1, 0.0) for x in xs] + [(x, -0.1, 0.0) for x in xs[::-1]]
    return make_cameras([np.concatenate([np.eye(3), np.array(c)[:, None]], axis=-1) for c in centres])


RIGS = {"arc": arc_cameras, "two rows": two_row_cameras}


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("path", PATHS)
def test_poses_are_rotations_that_see_the_scene(path, rig):
    cameras = RIGS[rig]()
    trajectory = make_trajectory(path, cameras, 21)
    rotation = trajectory.cameras.c2w[:, :, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(21, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(21))
    for i in range(21):  # the middle of the scene is well inside every image
        uv, in_front = trajectory.cameras.project(torch.tensor([0.0, 0.0, -2.0]), i)
        assert in_front and trajectory.cameras.inside(uv)
    assert rotation[:, 1, 1].min() > 0.9  # upright


@pytest.mark.parametrize("path", PATHS)
def test_lens_bounds_and_length(path):
    cameras = arc_cameras()
    trajectory = make_trajectory(path, cameras, 5)
    assert len(trajectory) == len(trajectory.cameras) == len(trajectory.times) == 5
    assert (trajectory.cameras.focal, trajectory.cameras.width) == (cameras.focal, cameras.width)
    assert trajectory.cameras.near.tolist() == pytest.approx([NEAR] * 5)
    assert trajectory.cameras.far.tolist() == pytest.approx([FAR] * 5)
    assert trajectory.cameras.c2w.dtype == cameras.c2w.dtype
    assert trajectory.cameras.resized(45, 81).width == 81


@pytest.mark.parametrize("path", [p for p in PATHS if p != "fixed-time"])
def test_time_runs_from_the_first_to_the_last_frame(path):
    times = make_trajectory(path, arc_cameras(), 17).times
    torch.testing.assert_close(times, torch.arange(17) * 0.5)


@pytest.mark.parametrize("path", PATHS)
def test_time_can_be_held_at_a_fraction(path):
    assert make_trajectory(path, arc_cameras(), 3, time=2.75).times.tolist() == [2.75] * 3


def test_fixed_time_holds_the_middle():
    assert make_trajectory("fixed-time", two_row_cameras(), 4).times.tolist() == [4.5] * 4


@pytest.mark.parametrize("path", PATHS)
def test_one_frame_and_one_camera_are_enough(path):
    trajectory = make_trajectory(path, make_cameras([np.eye(4)[:3]]), 3)
    assert trajectory.times.tolist() == [0.0] * 3
    assert trajectory.cameras.c2w.isfinite().all()
    assert len(make_trajectory(path, arc_cameras(), 1)) == 1


def test_a_name_and_its_function_make_a_path(monkeypatch):
    monkeypatch.setitem(PATHS, "backwards", lambda cameras, frames: trajectories.smoothed_path_poses(cameras, frames)[::-1])
    cameras = arc_cameras()
    torch.testing.assert_close(make_trajectory("backwards", cameras, 5).cameras.c2w[[0, -1]], cameras.c2w[[-1, 0]])


def test_no_two_names_are_the_same_path():
    poses = {path: make_trajectory(path, two_row_cameras(), 9).cameras.c2w for path in PATHS}
    assert not [(one, two) for one, two in combinations(PATHS, 2) if torch.allclose(poses[one], poses[two], atol=1e-3)]


def test_fixed_view_is_the_training_camera():
    cameras = arc_cameras()
    poses = make_trajectory("fixed-view", cameras, 4, camera=3).cameras.c2w
    torch.testing.assert_close(poses, cameras.c2w[3].expand(4, 3, 4))
    torch.testing.assert_close(make_trajectory("fixed-view", cameras, 1).cameras.c2w[0], cameras.c2w[0])


def test_fixed_time_begins_and_ends_at_the_training_ends():
    cameras = two_row_cameras()
    poses = make_trajectory("fixed-time", cameras, 30).cameras.c2w
    torch.testing.assert_close(poses[[0, -1]], cameras.c2w[[0, -1]])


def test_path_without_smoothing_passes_through_every_training_pose():
    cameras = arc_cameras(count=6)
    poses = trajectories.smoothed_path_poses(cameras, 11, smoothing=0.0)
    np.testing.assert_allclose(poses[::2], cameras.c2w.numpy(), atol=1e-6)


def test_smoothing_keeps_uniform_motion_and_removes_jitter():
    uniform = np.stack([np.concatenate([turn(0, 0.1 * i), [[0.2 * i], [0.0], [0.0]]], axis=-1) for i in range(9)])
    np.testing.assert_allclose(trajectories.smooth_poses(uniform, 1.0), uniform, atol=1e-9)
    jitter = uniform.copy()
    jitter[:, 1, 3] += 0.05 * (-1.0) ** np.arange(9)
    smooth = trajectories.smooth_poses(jitter, 1.0)
    assert np.abs(smooth[2:-2, 1, 3]).max() < 0.005
    np.testing.assert_allclose(smooth[[0, -1]], jitter[[0, -1]], atol=1e-12)


def test_interpolation_reproduces_quadratic_paths():
    s = np.arange(6.0)
    poses = np.zeros((6, 3, 4))
    poses[:, :, :3] = np.eye(3)
    poses[:, 0, 3], poses[:, 1, 3] = s, 0.3 * s**2
    between = trajectories.interpolate_poses(poses, np.array([1.25, 2.5, 3.9]))
    np.testing.assert_allclose(between[:, 0, 3], [1.25, 2.5, 3.9])
    np.testing.assert_allclose(between[:, 1, 3], 0.3 * np.array([1.25, 2.5, 3.9]) ** 2)


def test_slerp_turns_at_constant_speed_about_one_axis():
    start, axis = turn(0.3, -0.4, 1.0), np.array([0.6, 0.0, 0.8])
    share = np.array([0.0, 0.3, 0.5, 1.0])
    end = start @ turn(*(1.4 * axis))
    got = trajectories.slerp(np.repeat(start[None], 4, 0), np.repeat(end[None], 4, 0), share)
    for matrix, s in zip(got, share):
        np.testing.assert_allclose(matrix, start @ turn(*(1.4 * s * axis)), atol=1e-9)


def test_slerp_agrees_with_kornia():
    quaternion = pytest.importorskip("kornia.geometry.quaternion", reason="kornia is not installed")
    first, second = turn(0.2, 0.5, -0.1), turn(-0.4, 0.9, 0.6)
    a, b = (quaternion.Quaternion.from_matrix(torch.tensor(m)[None]) for m in (first, second))
    expected = a.slerp(b, 0.35).matrix()[0].numpy()
    np.testing.assert_allclose(trajectories.slerp(first[None], second[None], np.array([0.35]))[0], expected, atol=1e-6)


def test_nearest_rotation_undoes_noise_and_reflection():
    rotation = turn(0.2, 0.3, -0.5)
    np.testing.assert_allclose(trajectories.nearest_rotation(1.7 * rotation), rotation, atol=1e-12)
    flipped = trajectories.nearest_rotation(rotation @ np.diag([1.0, 1.0, -1.0]))
    assert np.linalg.det(flipped) == pytest.approx(1.0)


def test_ellipse_stays_inside_the_hull_and_uses_it():
    cameras = two_row_cameras()
    centres = make_trajectory("novel", cameras, 60).cameras.c2w[:, :, 3]
    x, y = centres[:, 0].abs(), centres[:, 1].abs()
    assert (x < 0.3).all() and (y < 0.1).all()  # the hull is the rectangle 0.3 x 0.1
    assert x.max() > 0.15 and y.max() > 0.05
    radii = torch.tensor([x.max(), y.max()])
    torch.testing.assert_close(((centres[:, :2] / radii) ** 2).sum(-1), torch.ones(60), atol=0.02, rtol=0)


def test_ellipse_on_an_arc_moves_along_it():
    cameras = arc_cameras()
    centres = make_trajectory("novel", cameras, 40).cameras.c2w[:, :, 3]
    low, high = cameras.c2w[:, :, 3].min(0).values, cameras.c2w[:, :, 3].max(0).values
    assert (centres >= low - 1e-6).all() and (centres <= high + 1e-6).all()
    assert centres[:, 0].max() > 0.5 * high[0] and centres[:, 0].min() < 0.5 * low[0]


def test_ellipse_on_a_straight_line_stays_on_it():
    line = make_cameras([np.concatenate([np.eye(3), [[0.1 * i], [0.0], [0.0]]], axis=-1) for i in range(5)])
    poses = make_trajectory("novel", line, 16).cameras.c2w
    assert poses[:, 1:, 3].abs().max() < 1e-6
    assert poses[:, 0, 3].min() > 0 and poses[:, 0, 3].max() < 0.4


def test_novel_views_aim_as_the_training_cameras_do():
    """Converging cameras: the focus stays at the image centre. Parallel cameras: the axes stay parallel."""
    converging = make_trajectory("novel", arc_cameras(distance=2.0), 20).cameras
    focus = torch.tensor([0.0, 0.0, -2.0])
    for i in range(20):
        uv, _ = converging.project(focus, i)
        assert (uv - torch.tensor([16.0, 9.0])).abs().max() < 1.5
    parallel = make_trajectory("novel", two_row_cameras(), 20).cameras.c2w
    torch.testing.assert_close(parallel[:, :, 2], torch.tensor([0.0, 0, 1]).expand(20, 3))


def test_convergence_is_the_inverse_distance_of_the_focus():
    assert trajectories.convergence(arc_cameras(distance=2.0)) == pytest.approx(0.5, rel=0.03)
    assert trajectories.convergence(two_row_cameras()) == 0.0
    assert trajectories.convergence(make_cameras([np.eye(4)[:3]])) == 0.0


@pytest.mark.parametrize("camera", [None, 2])
def test_dolly_moves_along_its_axis_and_stops_before_the_near_bound(camera):
    cameras = arc_cameras()
    poses = make_trajectory("dolly", cameras, 9, camera=camera).cameras.c2w
    start = torch.tensor(average_pose(cameras.c2w.numpy())[:3]).float() if camera is None else cameras.c2w[camera]
    torch.testing.assert_close(poses[0], start, atol=1e-6, rtol=0)
    torch.testing.assert_close(poses[:, :, :3], start[:, :3].expand(9, 3, 3), atol=1e-6, rtol=0)
    forward = -((poses[:, :, 3] - start[:, 3]) @ start[:, 2])
    torch.testing.assert_close(poses[:, :, 3], start[:, 3] - forward[:, None] * start[:, 2])
    assert (forward.diff() > 0).all()
    assert forward[-1].item() == pytest.approx(trajectories.FORWARD_SHARE * NEAR, rel=1e-5)


def test_spiral_looks_at_its_focus_and_keeps_within_its_radii():
    cameras = arc_cameras()
    trajectory = make_trajectory("spiral", cameras, 40)
    average = torch.tensor(average_pose(cameras.c2w.double().numpy())).float()
    local = (trajectory.cameras.c2w[:, :, 3] - average[:3, 3]) @ average[:3, :3]
    train = ((cameras.c2w[:, :, 3] - average[:3, 3]) @ average[:3, :3]).abs().numpy()
    radii = np.percentile(train, 90, axis=0)
    assert (local.abs().numpy() <= radii + 1e-6).all()
    assert local[:, 0].max().item() == pytest.approx(radii[0], abs=1e-5)
    depth = 1 / (0.25 / NEAR + 0.75 / FAR)
    focus = average[:3, :3] @ torch.tensor([0.0, 0.0, -depth]) + average[:3, 3]
    for i in range(40):
        uv, _ = trajectory.cameras.project(focus, i)
        torch.testing.assert_close(uv, torch.tensor([16.0, 9.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"path": "orbit", "frames": 3}, "novel, fixed-view"),
    ({"path": "novel", "frames": 0}, "at least 1"),
    ({"path": "novel", "frames": 3, "time": 8.5}, "between 0 and 8"),
    ({"path": "fixed-view", "frames": 3, "camera": 9}, "between 0 and 8"),
    ({"path": "fixed-view", "frames": 3, "camera": -1}, "between 0 and 8"),
    ({"path": "spiral", "frames": 3, "camera": 1}, "leave it out"),
])
def test_impossible_requests_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_trajectory(cameras=arc_cameras(), **arguments)
