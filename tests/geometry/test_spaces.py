"""NDC and metric space against closed forms: rays stay on their pixels, conversions round-trip."""

import pytest
import torch

from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import MetricSpace, NdcSpace, camera_rays, make_space

FOCAL, HEIGHT, WIDTH = 30.0, 18, 32
NEAR, FAR = 1.2, 5.0


@pytest.fixture
def cameras() -> Cameras:
    """Three forward-facing cameras, slightly turned and shifted, also along the axis."""
    poses = []
    for x, y, z, turn in ((0.0, 0.0, 0.0, 0.0), (0.3, -0.1, 0.08, 0.1), (-0.25, 0.15, -0.06, -0.12)):
        roll = 0.3 * turn
        generator = torch.tensor([[0, roll, turn], [-roll, 0, -turn / 2], [-turn, turn / 2, 0]], dtype=torch.float64)
        centre = torch.tensor([[x], [y], [z]], dtype=torch.float64)
        poses.append(torch.cat([torch.matrix_exp(generator), centre], dim=1))
    near = torch.tensor([NEAR, NEAR + 0.1, NEAR], dtype=torch.float64)
    far = torch.tensor([FAR, FAR - 0.5, FAR], dtype=torch.float64)
    return Cameras(torch.stack(poses), FOCAL, HEIGHT, WIDTH, near, far)


def every_space(cameras: Cameras) -> dict:
    return {
        "ndc": make_space("ndc", cameras, clip_to_bounds=False),
        "ndc clipped": make_space("ndc", cameras, clip_to_bounds=True),
        "metric": make_space("metric", cameras, clip_to_bounds=False),
    }


@pytest.mark.parametrize("kind", ["ndc", "ndc clipped", "metric"])
@pytest.mark.parametrize("frame", [0, 1, 2])
def test_every_point_of_a_ray_projects_to_its_pixel(cameras, kind, frame):
    space = every_space(cameras)[kind]
    uv = cameras.pixels().reshape(-1, 2).double()[::7]
    rays = camera_rays(cameras, space, frame, uv)
    u = torch.linspace(0, 0.99, 12, dtype=torch.float64).expand(len(uv), -1)
    projected, in_front = cameras.project(space.to_world(rays.at(u)), frame)
    assert in_front.all()
    torch.testing.assert_close(projected, uv[:, None].expand_as(projected), atol=1e-9, rtol=0)


def test_the_infinite_end_of_an_ndc_ray_stays_on_its_pixel_within_a_hundredth(cameras):
    space = make_space("ndc", cameras, clip_to_bounds=False)
    uv = cameras.pixels().reshape(-1, 2).double()
    rays = camera_rays(cameras, space, 1, uv)
    end = space.to_world(rays.at(torch.ones(len(uv), 1, dtype=torch.float64)))[:, 0]
    assert end.isfinite().all()
    assert (cameras.project(end, 1)[0] - uv).abs().max() < 0.01


@pytest.mark.parametrize("kind", ["ndc", "metric"])
def test_round_trips(cameras, kind):
    space = every_space(cameras)[kind]
    generator = torch.Generator().manual_seed(0)
    field = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 1.9 - 0.95
    torch.testing.assert_close(space.from_world(space.to_world(field)), field)
    world = space.to_world(field)
    torch.testing.assert_close(space.to_world(space.from_world(world)), world)


def test_ndc_corners_are_the_frustum_of_the_average_camera(cameras):
    """The image corners at the near plane are (±1, ±1, -1); at depth z the third coordinate is 1 - 2/z."""
    space = make_space("ndc", cameras, clip_to_bounds=False)
    corners = torch.tensor([[0.0, 0.0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], dtype=torch.float64)
    expected_xy = torch.tensor([[-1.0, 1], [1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    for depth in (1.0, 2.0, 8.0):
        points = space.from_world(cameras.lift(corners, torch.full((4,), depth, dtype=torch.float64), 0))
        torch.testing.assert_close(points[:, :2], expected_xy)
        torch.testing.assert_close(points[:, 2], torch.full((4,), 1 - 2 / depth, dtype=torch.float64))


def test_inverse_depth_is_linear_along_ndc_rays(cameras):
    space = make_space("ndc", cameras, clip_to_bounds=False)
    uv = torch.tensor([[3.5, 2.5], [20.0, 11.0]], dtype=torch.float64)
    rays = camera_rays(cameras, space, 1, uv)
    u = torch.linspace(0, 0.9, 10, dtype=torch.float64).expand(2, -1)
    world_depth = -space.to_world(rays.at(u))[..., 2]
    torch.testing.assert_close(1 / world_depth, 1 - u)


def test_rays_keep_their_uv_and_unit_view_directions(cameras):
    uv = torch.tensor([[3.5, 2.5], [20.0, 11.0]], dtype=torch.float64)
    rays = camera_rays(cameras, make_space("metric", cameras, False), 2, uv)
    direction = cameras.directions(2, uv)
    torch.testing.assert_close(rays.view_dirs, direction / direction.norm(dim=-1, keepdim=True))
    assert rays.uv is uv and len(rays) == 2


def test_clipped_ndc_rays_run_between_the_bounds_with_a_margin(cameras):
    space = make_space("ndc", cameras, clip_to_bounds=True)
    rays = camera_rays(cameras, space, 0, cameras.pixels().reshape(-1, 2).double())
    ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(len(rays), -1)
    depth = -space.to_world(rays.at(ends))[..., 2]
    torch.testing.assert_close(depth[:, 0], torch.full_like(depth[:, 0], 0.9 * NEAR))
    torch.testing.assert_close(depth[:, 1], torch.full_like(depth[:, 1], 1.1 * FAR))


def test_unclipped_ndc_rays_run_from_the_near_plane_to_the_far_plane(cameras):
    space = make_space("ndc", cameras, clip_to_bounds=False)
    assert (space.u_near, space.u_far) == (0.0, 1.0)
    rays = camera_rays(cameras, space, 2, torch.tensor([[9.5, 3.5]], dtype=torch.float64))
    assert rays.origins[0, 2].item() == pytest.approx(-1.0)
    assert (rays.origins + rays.directions)[0, 2].item() == pytest.approx(1.0)


def test_a_near_bound_before_the_near_plane_is_not_clipped():
    near, far = torch.tensor([1.05]), torch.tensor([3.0])
    cameras = Cameras(torch.eye(4)[None, :3], FOCAL, HEIGHT, WIDTH, near, far)
    assert make_space("ndc", cameras, clip_to_bounds=True).u_near == 0.0


def test_metric_box_holds_all_rays_tightly_and_depth_is_linear(cameras):
    space = make_space("metric", cameras, clip_to_bounds=False)
    assert isinstance(space, MetricSpace)
    corners = torch.tensor([[0.0, 0.0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], dtype=torch.float64)
    u = torch.linspace(0, 1, 5, dtype=torch.float64).expand(4, -1)
    points = []
    for frame in range(3):
        sampled = camera_rays(cameras, space, frame, corners).at(u)
        depth = cameras.depth(space.to_world(sampled), frame)
        torch.testing.assert_close(depth, NEAR + u * (FAR - NEAR))
        points.append(sampled)
    reach = torch.cat(points).abs().amax(dim=(0, 1))
    assert (reach <= 1 + 1e-9).all() and reach.max() > 1 - 1e-9


def test_to_world_stays_finite_at_and_beyond_infinity():
    space = NdcSpace(1.9, 3.3)
    points = torch.tensor([[0.5, 0.2, 1.0], [0.5, 0.2, 1.7]], requires_grad=True)
    world = space.to_world(points)
    assert world.isfinite().all() and (world[:, 2] < -1000).all()
    world.sum().backward()
    assert points.grad.isfinite().all()


def test_a_space_goes_where_its_points_are(cameras):
    """A GPU would be waited for to bring the centre to its points."""
    metric, ndc = (make_space(kind, cameras, clip_to_bounds=False) for kind in ("metric", "ndc"))
    assert metric.to("meta").centre.device.type == "meta" and ndc.to("meta") is ndc
    assert make_space("metric", cameras.to("cpu"), False).centre.device == cameras.c2w.device


@pytest.mark.parametrize("kind", ["ndc", "ndc clipped", "metric"])
@pytest.mark.parametrize("u", [-0.1, 0.0, 0.3])
def test_a_space_begun_elsewhere_cuts_the_same_rays_there(cameras, kind, u):
    space = every_space(cameras)[kind]
    moved, uv = space.begun_at(u), torch.tensor([[3.0, 2.0], [17.5, 9.0]], dtype=torch.float64)
    before, after = (camera_rays(cameras, each, 1, uv) for each in (space, moved))
    whole = torch.tensor([0.0, 0.25, 0.9], dtype=torch.float64).expand(2, 3)
    torch.testing.assert_close(after.at(whole), before.at(u + whole * (1 - u)), atol=1e-5, rtol=1e-5)
    found = moved.ray_parameter(after.at(whole).flatten(0, 1), cameras, 1)
    torch.testing.assert_close(found, whole.flatten(), atol=1e-4, rtol=0)


def test_what_lies_behind_the_far_bound_is_known_in_an_endless_space(cameras):
    clipped, endless, metric = (every_space(cameras)[kind] for kind in ("ndc clipped", "ndc", "metric"))
    u, uv = torch.linspace(0, 1, 50, dtype=torch.float64).expand(4, 50), torch.rand(4, 2, dtype=torch.float64) * 9
    assert clipped.bounded(camera_rays(cameras, clipped, 1, uv).at(u)).all()
    assert metric.bounded(camera_rays(cameras, metric, 1, uv).at(u)).all()
    points = camera_rays(cameras, endless, 1, uv).at(u)
    assert torch.equal(endless.bounded(points), -endless.to_world(points)[..., 2] <= 1.1 * FAR + 1e-3)
    assert 0.1 < endless.bounded(points).float().mean() < 0.9
