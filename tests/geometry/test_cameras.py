"""Cameras against closed forms and against kornia's pinhole camera."""

import math

import pytest
import torch

from semflow.geometry.cameras import MIN_DEPTH, Cameras

FOCAL, HEIGHT, WIDTH = 37.0, 18, 32


def rotation(x: float, y: float, z: float) -> torch.Tensor:
    """Rotation about the three axes, in that order."""
    def about(axis: int, angle: float) -> torch.Tensor:
        generator = torch.zeros(3, 3, dtype=torch.float64)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        generator[i, j], generator[j, i] = -angle, angle
        return torch.matrix_exp(generator)

    return about(2, z) @ about(1, y) @ about(0, x)


@pytest.fixture
def cameras() -> Cameras:
    poses = [
        torch.cat([torch.eye(3, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64)], dim=1),
        torch.cat([rotation(0.2, -0.3, 0.1), torch.tensor([[0.4], [-0.2], [0.3]], dtype=torch.float64)], dim=1),
        torch.cat([rotation(-0.5, 2.0, 0.7), torch.tensor([[-3.0], [1.0], [5.0]], dtype=torch.float64)], dim=1),
    ]
    bounds = torch.ones(3, dtype=torch.float64)
    return Cameras(torch.stack(poses), FOCAL, HEIGHT, WIDTH, bounds, 4 * bounds)


def kornia_camera(cameras: Cameras, frame: int):
    """kornia's camera (OpenCV frame: x right, y down, z forward) with the same lens and pose."""
    camera = pytest.importorskip("kornia.geometry.camera", reason="kornia is not installed")
    intrinsics = torch.eye(4, dtype=torch.float64)
    intrinsics[0, 0] = intrinsics[1, 1] = cameras.focal
    intrinsics[0, 2], intrinsics[1, 2] = cameras.width / 2, cameras.height / 2
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3] = cameras.c2w[frame]
    extrinsics = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)) @ torch.linalg.inv(c2w)
    size = (torch.tensor([cameras.height]), torch.tensor([cameras.width]))
    return camera.PinholeCamera(intrinsics[None], extrinsics[None], *size)


def pixels_and_depths(count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    uv = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size
    return uv, 0.5 + 6 * torch.rand(count, generator=generator, dtype=torch.float64)


def test_pixel_centres_are_half_integers(cameras):
    pixels = cameras.pixels()
    assert pixels.shape == (HEIGHT, WIDTH, 2)
    assert pixels[0, 0].tolist() == [0.5, 0.5]
    assert pixels[2, 5].tolist() == [5.5, 2.5]
    assert pixels.mean(dim=(0, 1)).tolist() == [WIDTH / 2, HEIGHT / 2]


def test_axis_meets_the_image_centre_and_y_points_up(cameras):
    uv, in_front = cameras.project(torch.tensor([[0.0, 0, -3], [1, 0, -2], [0, 1, -2]], dtype=torch.float64), 0)
    expected = [[WIDTH / 2, HEIGHT / 2], [WIDTH / 2 + FOCAL / 2, HEIGHT / 2], [WIDTH / 2, HEIGHT / 2 - FOCAL / 2]]
    assert in_front.all()
    torch.testing.assert_close(uv, torch.tensor(expected, dtype=torch.float64))


def test_direction_of_the_upper_left_pixel(cameras):
    direction = cameras.directions(0, torch.tensor([[0.5, 0.5]], dtype=torch.float64))[0]
    expected = [(0.5 - WIDTH / 2) / FOCAL, (HEIGHT / 2 - 0.5) / FOCAL, -1.0]
    torch.testing.assert_close(direction, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_project_of_a_point_on_the_ray_is_the_pixel(cameras, frame):
    uv, depth = pixels_and_depths()
    points = cameras.lift(uv, depth, frame)
    projected, in_front = cameras.project(points, frame)
    assert in_front.all()
    torch.testing.assert_close(projected, uv)
    torch.testing.assert_close(cameras.depth(points, frame), depth)


def test_points_of_all_cameras_at_once_are_seen_as_by_each_alone(cameras):
    uv, depth = pixels_and_depths()
    points = torch.stack([cameras.lift(uv + frame, depth, frame) for frame in range(3)])
    projected, in_front = cameras.project(points, None)
    for frame in range(3):
        torch.testing.assert_close(projected[frame], uv + frame)
        torch.testing.assert_close(cameras.depth(points, None)[frame], depth)
    assert in_front.all()
    with pytest.raises(ValueError, match="points of 1 cameras, but 3 cameras"):
        cameras.project(points[:1], None)


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_projection_and_unprojection_agree_with_kornia(cameras, frame):
    theirs = kornia_camera(cameras, frame)
    uv, depth = pixels_and_depths()
    points = cameras.lift(uv, depth, frame)
    torch.testing.assert_close(points, theirs.unproject(uv[None], depth[None, :, None])[0])
    other = points + 0.1 * torch.sin(points)
    torch.testing.assert_close(cameras.project(other, frame)[0], theirs.project(other[None])[0])


def test_points_behind_are_flagged_and_finite(cameras):
    points = [[0.0, 0, 1], [0.3, 0.1, 0], [0, 0, -MIN_DEPTH / 2], [0, 0, -2 * MIN_DEPTH]]
    points = torch.tensor(points, dtype=torch.float64)
    points.requires_grad_()
    uv, in_front = cameras.project(points, 0)
    assert in_front.tolist() == [False, False, False, True]
    assert uv.isfinite().all()
    uv.sum().backward()
    assert points.grad.isfinite().all()


def test_inside_is_the_image_rectangle(cameras):
    uv = torch.tensor([[0.5, 0.5], [WIDTH - 0.5, HEIGHT - 0.5], [-0.1, 3], [3, HEIGHT + 0.1], [WIDTH + 0.1, 3]])
    assert cameras.inside(uv).tolist() == [True, True, False, False, False]


def test_resized_keeps_directions(cameras):
    half = cameras.resized(HEIGHT // 2, WIDTH // 2)
    uv, _ = pixels_and_depths()
    torch.testing.assert_close(half.directions(1, uv / 2), cameras.directions(1, uv))
    assert (half.focal, half.height, half.width) == (FOCAL / 2, HEIGHT // 2, WIDTH // 2)


def test_flow_of_a_static_point_is_the_motion_of_the_camera(cameras):
    """A camera moved by (a, b, c): pixels move by the closed form of a pinhole, whatever the pixel."""
    shift = torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)
    c2w = cameras.c2w[:1].repeat(2, 1, 1)
    c2w[1, :, 3] += shift
    pair = Cameras(c2w, FOCAL, HEIGHT, WIDTH, cameras.near[:2], cameras.far[:2])
    uv, depth = pixels_and_depths()
    flow = pair.project(pair.lift(uv, depth, 0), 1)[0] - uv
    new_depth = depth + shift[2]
    x = (uv[:, 0] - WIDTH / 2) * depth - FOCAL * shift[0]
    y = (uv[:, 1] - HEIGHT / 2) * depth + FOCAL * shift[1]
    expected = torch.stack([x / new_depth + WIDTH / 2, y / new_depth + HEIGHT / 2], dim=-1) - uv
    torch.testing.assert_close(flow, expected)


def test_flow_of_a_turning_camera_does_not_depend_on_depth(cameras):
    """Turning left by an angle moves the image of the axis to the right by focal * tan(angle)."""
    angle = 0.15
    c2w = cameras.c2w[:1].repeat(2, 1, 1)
    c2w[1, :, :3] = rotation(0, angle, 0)
    pair = Cameras(c2w, FOCAL, HEIGHT, WIDTH, cameras.near[:2], cameras.far[:2])
    centre = torch.tensor([[WIDTH / 2, HEIGHT / 2]] * 3, dtype=torch.float64)
    uv, _ = pair.project(pair.lift(centre, torch.tensor([1.0, 2.0, 9.0], dtype=torch.float64), 0), 1)
    expected = torch.tensor([[WIDTH / 2 + FOCAL * math.tan(angle), HEIGHT / 2]] * 3, dtype=torch.float64)
    torch.testing.assert_close(uv, expected)


def test_to_moves_every_tensor(cameras):
    moved = cameras.to("meta")
    assert moved.c2w.device.type == moved.near.device.type == moved.far.device.type == "meta"
    assert len(moved) == 3 and moved.focal == FOCAL
