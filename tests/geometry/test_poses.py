"""LLFF poses: column order, scaling, re-centring."""

import numpy as np
import pytest
import torch

from semflow.geometry.poses import (
    average_pose,
    cameras_from_llff,
    llff_rows,
    llff_to_opengl,
    opengl_to_llff,
    recenter,
    scaled_vector,
)


def rotations(count: int, spread: float, seed: int = 0) -> np.ndarray:
    """(count, 3, 3) rotations near a common, arbitrary one."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64) * spread + torch.tensor([0.4, -0.9, 0.3])
    matrices = torch.zeros(count, 3, 3, dtype=torch.float64)
    matrices[:, 2, 1], matrices[:, 0, 2], matrices[:, 1, 0] = vectors.T
    return torch.matrix_exp(matrices - matrices.mT).numpy()


@pytest.fixture
def c2w() -> np.ndarray:
    centres = np.random.default_rng(1).normal(size=(7, 3, 1)) * 0.3 + np.array([[3.0], [-1.0], [2.0]])
    return np.concatenate([rotations(7, 0.1), centres], axis=-1)


@pytest.fixture
def rows(c2w) -> np.ndarray:
    """(7, 17) LLFF rows of images of 540 x 960 with focal 900."""
    lens = np.broadcast_to(np.array([[540.0], [960.0], [900.0]]), (7, 3, 1))
    bounds = np.stack([2.0 + 0.1 * np.arange(7), 9.0 + np.arange(7)], axis=-1)
    return np.concatenate([np.concatenate([opengl_to_llff(c2w), lens], axis=-1).reshape(7, 15), bounds], axis=-1)


def test_llff_columns_are_down_right_back(c2w):
    identity = np.concatenate([np.eye(3), np.array([[1.0], [2.0], [3.0]])], axis=-1)[None]
    llff = opengl_to_llff(identity)[0]
    expected = np.array([[0, 1, 0, 1], [-1, 0, 0, 2], [0, 0, 1, 3]], dtype=float)  # down = -y, right = x, back = z
    np.testing.assert_array_equal(llff, expected)


def test_llff_round_trip_keeps_rotations_proper(c2w):
    np.testing.assert_array_equal(llff_to_opengl(opengl_to_llff(c2w)), c2w)
    np.testing.assert_allclose(np.linalg.det(opengl_to_llff(c2w)[:, :, :3]), 1.0)


def test_average_pose_of_equal_poses_is_that_pose(c2w):
    np.testing.assert_allclose(average_pose(np.repeat(c2w[:1], 4, axis=0))[:3], c2w[0], atol=1e-12)


def test_average_of_opposite_turns_is_straight():
    turn = np.array([[np.cos(0.3), 0, np.sin(0.3)], [0, 1, 0], [-np.sin(0.3), 0, np.cos(0.3)]])
    poses = np.zeros((2, 3, 4))
    poses[:, :, :3] = turn, turn.T
    poses[:, :, 3] = (2, 0, 0), (0, 2, 4)
    expected = np.eye(4)
    expected[:3, 3] = [1, 1, 2]
    np.testing.assert_allclose(average_pose(poses), expected, atol=1e-12)


def test_recentred_poses_have_the_identity_as_average(c2w):
    np.testing.assert_allclose(average_pose(recenter(c2w)), np.eye(4), atol=1e-12)


def test_recentring_keeps_relative_poses(c2w):
    new = recenter(c2w)
    for i, j in ((0, 1), (2, 6)):
        np.testing.assert_allclose(new[i, :, :3].T @ new[j, :, :3], c2w[i, :, :3].T @ c2w[j, :, :3], atol=1e-12)
        seen, expected = (poses[i, :, :3].T @ (poses[j, :, 3] - poses[i, :, 3]) for poses in (new, c2w))
        np.testing.assert_allclose(seen, expected, atol=1e-12)


def test_world_is_scaled_by_the_near_percentile(rows, c2w):
    cameras = cameras_from_llff(rows, 270, 480)
    scale = 1 / (0.9 * np.percentile(rows[:, 15], 5))
    np.testing.assert_allclose(cameras.near.numpy(), rows[:, 15] * scale, rtol=1e-6)
    np.testing.assert_allclose(cameras.far.numpy(), rows[:, 16] * scale, rtol=1e-6)
    distance = np.linalg.norm(c2w[0, :, 3] - c2w[5, :, 3]) * scale
    assert torch.dist(cameras.center(0), cameras.center(5)).item() == pytest.approx(distance, rel=1e-5)


def test_focal_follows_the_image_width(rows):
    assert cameras_from_llff(rows, 540, 960).focal == pytest.approx(900)
    half = cameras_from_llff(rows, 270, 480)
    assert (half.focal, half.height, half.width) == (pytest.approx(450), 270, 480)


def test_pixels_of_a_point_do_not_depend_on_scaling_and_recentring(rows, c2w):
    """The same physical point is seen at the same pixel before and after."""
    local = np.array([0.3, -0.2, -4.0])  # in camera 2
    point = c2w[2, :, :3] @ local + c2w[2, :, 3]
    cameras = cameras_from_llff(rows, 540, 960)
    scale = 1 / (0.9 * np.percentile(rows[:, 15], 5))
    moved = np.linalg.inv(average_pose(c2w)) @ np.append(point, 1.0)
    uv, in_front = cameras.project(torch.tensor(moved[:3] * scale, dtype=torch.float32), 2)
    assert in_front
    assert uv.tolist() == pytest.approx([480 + 900 * 0.3 / 4, 270 + 900 * 0.2 / 4], abs=1e-2)


def test_the_rows_are_not_edited(rows):
    before = rows.copy()
    cameras_from_llff(rows, 270, 480)
    np.testing.assert_array_equal(rows, before)


def test_vectors_follow_the_scaled_world():
    """Two points of the file's world, both taken into the cameras' world by hand, differ by the scaled vector."""
    rng = np.random.default_rng(0)
    rows = np.stack([llff_row(rng) for _ in range(4)])
    vector = np.array([0.3, -1.0, 2.0])
    shifted = rows.copy()
    matrices = shifted[:, :15].reshape(-1, 3, 5)
    matrices[:1, :, 3] += vector  # one camera moved: it moves by the vector, less the share of the average
    one, two = (cameras_from_llff(r, 8, 8).c2w[0, :, 3].numpy() for r in (rows, shifted))
    np.testing.assert_allclose(two - one, 0.75 * scaled_vector(rows, vector), atol=1e-5)


def llff_row(rng) -> np.ndarray:
    """A pose at a random place, turned by a little, with bounds 2 and 9."""
    place = np.concatenate([np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]), rng.normal(size=(3, 1)), [[8], [8], [9]]], axis=1)
    return np.concatenate([place.reshape(-1), [2.0, 9.0]])


def test_rows_of_cameras_give_these_cameras_again(rows):
    """Their world is scaled and re-centred already: reading the rows changes nothing."""
    cameras = cameras_from_llff(rows, 270, 480)
    bounds = torch.stack([cameras.near, cameras.far], dim=-1).numpy()
    again = cameras_from_llff(llff_rows(cameras.c2w.numpy(), np.array([540.0, 960.0, 900.0]), bounds), 270, 480)
    torch.testing.assert_close(again.c2w, cameras.c2w, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.near, cameras.near)
    torch.testing.assert_close(again.far, cameras.far)
    assert again.focal == cameras.focal == 450.0
