"""Synthetic scenes: shapes, motions and textures against closed forms."""

import math

import numpy as np
import pytest
import torch

from semflow.data.synthetic.arrange import build_scene, least_share
from semflow.data.synthetic.motion import Hover, Path, Roll, Still
from semflow.data.synthetic.raycast import draw_all, intersect, make_view, nearest, to_material, to_world
from semflow.data.synthetic.scene import SceneSpec, Thing
from semflow.data.synthetic.shapes import Box, Flag, Quad, Sphere
from semflow.data.synthetic.textures import Bricks, Checks, Stripes, fractal_noise, square_wave, value_noise
from semflow.data.synthetic.truth import flow_between
from semflow.geometry.cameras import Cameras
from semflow.utils.errors import ConfigError

RED = Stripes((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), 1.0, 0)


def thing(shape, motion, kind="ball"):
    return Thing(kind, shape, motion, RED)


def camera_at_origin(height=24, width=32, focal=30.0):
    bounds = torch.tensor([1.0], dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64)[None, :3]
    return Cameras(c2w, focal, height, width, bounds, bounds)


def path(centre, reach=(0.0, 0.0, 0.0), period=24.0):
    return Path(centre, reach, (period,) * 3, (0.0,) * 3, middle=0.0)


def test_depth_of_a_sphere_is_the_nearer_root():
    view = make_view(camera_at_origin(), 0, 24, 32)
    seen = draw_all([thing(Sphere(), Still((0.3, -0.2, -5.0), size=1.2))], view, 0.0, colored=False)
    d = view.directions.numpy()
    centre = np.array([0.3, -0.2, -5.0])
    a, b, c = (d * d).sum(-1), d @ centre, centre @ centre - 1.2**2
    inside = b * b - a * c
    expected = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    assert 20 < np.isfinite(expected).sum() < 700
    np.testing.assert_allclose(seen.depth.numpy(), expected, rtol=1e-9)


def test_depth_of_a_floor_is_height_over_slope():
    view = make_view(camera_at_origin(), 0, 24, 32)
    floor = thing(Quad((500.0, 500.0)), Still((0.0, -1.5, 0.0), pitch=-math.pi / 2), "floor")
    depth = draw_all([floor], view, 0.0, colored=False).depth
    rows = torch.arange(24).double() + 0.5
    expected = 1.5 * 30.0 / (rows - 12.0)  # depth = height * focal / rows under the horizon
    torch.testing.assert_close(depth[12:], expected[12:, None].expand(12, 32), rtol=1e-9, atol=1e-12)
    assert depth[:12].isinf().all()


def test_box_is_hit_on_the_face_that_looks_at_the_ray():
    box = thing(Box((0.5, 1.0, 2.0)), Still((0.0, 0.0, -6.0)))
    directions = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.3, -1.0]], dtype=torch.float64)
    distance = intersect(box, torch.zeros(3, dtype=torch.float64), directions, 0.0)
    assert distance[0] == pytest.approx(4.0)
    assert distance[1].isinf()  # passes over the front edge at y = 1.2
    material = to_material(box, distance[:1, None] * directions[:1], 0.0)
    assert box.shape.normals(material, 0.0).tolist() == [[0.0, 0.0, 1.0]]


def test_nearer_thing_hides_the_farther_in_any_order():
    near, far = thing(Sphere(), Still((0, 0, -4.0))), thing(Sphere(), Still((0, 0, -9.0), size=3.0))
    view = make_view(camera_at_origin(), 0, 24, 32)
    one, two = (draw_all(order, view, 0.0, colored=False) for order in ([near, far], [far, near]))
    assert one.instance[12, 16] == 0 and two.instance[12, 16] == 1
    torch.testing.assert_close(one.depth, two.depth)
    depth, instance = nearest([near, far], view.origin, view.directions.reshape(-1, 3), 0.0)
    torch.testing.assert_close(depth.reshape(24, 32), one.depth)
    assert torch.equal(instance.reshape(24, 32), one.instance)


@pytest.mark.parametrize("time", [0.0, 2.7])
def test_flag_hits_lie_on_the_sheet_and_nothing_was_before(time):
    flag = Flag((0.8, 0.5), amplitude=0.2, waves=1.2, period=9.0)
    origin = torch.tensor([0.2, 0.1, 3.0], dtype=torch.float64)
    targets = torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    spots = torch.cat([targets * torch.tensor([0.75, 0.45]), torch.zeros(300, 1)], dim=-1).double()
    directions = (flag.place(spots, time) - origin) / 3.0
    distance = flag.intersect(origin, directions, time)
    points = origin + distance[:, None] * directions
    height = flag.height(points[:, 0], points[:, 1], time)[0]
    torch.testing.assert_close(points[:, 2], height, rtol=0, atol=1e-9)
    assert (distance <= 3.0 + 1e-9).all()
    torch.testing.assert_close(flag.place(flag.material(points, time), time), points, rtol=0, atol=1e-9)


def test_flag_normals_match_finite_differences():
    flag = Flag((0.8, 0.5), amplitude=0.2, waves=1.2, period=9.0)
    spot = torch.tensor([[0.31, -0.12, 0.0]], dtype=torch.float64)
    normal = flag.normals(spot, 1.3)[0]
    for axis in (0, 1):
        step = torch.zeros(1, 3, dtype=torch.float64)
        step[0, axis] = 1e-6
        tangent = flag.place(spot + step, 1.3) - flag.place(spot - step, 1.3)
        assert abs(float(tangent[0] @ normal)) < 1e-11


def test_rolling_ball_does_not_slip():
    motion = Roll(path((0.0, -1.0, -5.0), (1.5, 0.0, 0.0)), radius=0.4, tilt=0.7)
    contact = torch.tensor([[0.0, -1.4, -5.0]], dtype=torch.float64) + torch.tensor([[motion.path.at(2.0)[0], 0, 0]])
    ball = thing(Sphere(), motion)
    spot = to_material(ball, contact, 2.0)
    speed = (to_world(ball, spot, 2.001) - to_world(ball, spot, 1.999)) / 0.002
    centre_speed = (motion.path.at(2.001) - motion.path.at(1.999))[0] / 0.002
    assert abs(centre_speed) > 0.1
    assert speed[0].abs().max() < 1e-3


def test_balloon_keeps_its_volume_but_not_its_shape():
    motion = Hover(path((0, 0, -5.0)), (0.5, 0.6, 0.5), stretch=0.2, period=8.0, lean=0.3, spin=0.1)
    volumes = [np.linalg.det(motion.matrix(t)[:3, :3]) for t in (0.0, 1.0, 2.0, 5.5)]
    np.testing.assert_allclose(volumes, 0.5 * 0.6 * 0.5)
    longest = [np.linalg.svd(motion.matrix(t)[:3, :3])[1][0] for t in (0.0, 2.0)]
    assert longest[1] == pytest.approx(1.2 * longest[0])


def test_path_moves_as_far_whatever_the_number_of_frames():
    short, long = (Path((0, 0, 0), (1.0, 0, 0), (36.0, 1, 1), (0, 0, 0), middle) for middle in (5.5, 11.5))
    assert short.at(6.0)[0] - short.at(5.0)[0] == pytest.approx(long.at(12.0)[0] - long.at(11.0)[0])


def test_value_noise_interpolates_lattice_values_smoothly():
    corners = torch.tensor([[3.0, 4.0, 5.0], [4.0, 4.0, 5.0]], dtype=torch.float64)
    a, b = value_noise(corners, seed=1)
    middle = value_noise(corners.mean(0, keepdim=True), seed=1)[0]
    assert middle == pytest.approx(float(a + b) / 2)
    assert value_noise(corners - 1e-9, seed=1) == pytest.approx([float(a), float(b)], abs=1e-6)
    assert not torch.equal(value_noise(corners, seed=2), value_noise(corners, seed=1))


@pytest.mark.parametrize("duty", [0.25, 0.5, 0.9])
def test_square_wave_keeps_its_mean_at_every_footprint(duty):
    x = torch.linspace(-2, 2, 4001, dtype=torch.float64)[:-1]
    for width in (0.01, 0.1, 0.6, 3.0):
        wave = square_wave(x, torch.full_like(x, width), duty)
        assert float(wave.mean()) == pytest.approx(duty, abs=0.13)
    assert torch.allclose(wave, torch.full_like(wave, duty))  # nothing left of a wave finer than the samples
    sharp = square_wave(torch.tensor([0.5 * duty, 0.5 * duty + 0.5]), torch.full((2,), 0.01), duty)
    assert sharp.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("texture", [
    Bricks((0.6, 0.4, 0.3), (0.9, 0.9, 0.8), (0.6, 0.27), 0.2, 3), Checks((0.7, 0.6, 0.5), (0.3, 0.2, 0.2), 0.5, 0.2, 3)])
def test_textures_fade_to_one_colour_when_seen_from_afar(texture):
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 9
    near, far = texture(points, torch.full((500,), 0.01)), texture(points, torch.full((500,), 5.0))
    assert near.std(dim=0).min() > 0.05
    assert far.std(dim=0).max() < 1e-6
    assert fractal_noise(points, torch.full((500,), 5.0), 0.5, 4, seed=0).abs().max() == 0


@pytest.fixture(scope="module")
def scene():
    return build_scene(SceneSpec("room", seed=2, frames=12, height=48, width=64, objects=("balloon", "ball", "crate", "flag")))


@pytest.mark.parametrize(("source", "target"), [(0, 1), (11, 10)])
def test_flow_lands_on_the_same_surface_point_and_returns(scene, source, target):
    cameras = scene.cameras.resized(48, 64)
    seen = draw_all(scene.things, make_view(cameras, source, 48, 64), float(source), colored=False)
    truth = flow_between(scene, seen, source, target)
    visible = truth.visible
    assert 0.8 < visible.double().mean() < 1
    landed = (cameras.pixels() + truth.flow)[visible].double()
    directions = cameras.directions(target, landed)
    depth, instance = nearest(scene.things, cameras.center(target), directions, float(target))
    agree = instance == seen.instance[visible]
    assert agree.double().mean() > 0.999  # float32 flow may miss an edge by a hair
    points = cameras.center(target) + depth[:, None] * directions
    for number in instance.unique().tolist():
        chosen = agree & (instance == number)
        material = to_material(scene.things[number], points[chosen], float(target))
        assert (material - seen.material[visible][chosen]).norm(dim=-1).median() < 1e-5
        back, _ = cameras.project(to_world(scene.things[number], material, float(source)), source)
        assert (back - cameras.pixels()[visible][chosen]).norm(dim=-1).quantile(0.99) < 1e-2
    assert set(scene.moving().nonzero()[:, 0].tolist()) <= set(instance.tolist())


def test_hidden_points_are_not_marked_visible(scene):
    """A point that the other frame's image shows behind a nearer surface must be masked."""
    cameras = scene.cameras.resized(48, 64)
    seen = [draw_all(scene.things, make_view(cameras, i, 48, 64), float(i), colored=False) for i in (0, 1)]
    truth = flow_between(scene, seen[0], 0, 1)
    moving = scene.moving()
    landed = (cameras.pixels() + truth.flow).floor().long()
    inside = cameras.inside(cameras.pixels() + truth.flow) & (landed[..., 0] < 64) & (landed[..., 1] < 48)
    cover = torch.full_like(inside, False)
    cover[inside] = moving[seen[1].instance[landed[inside][:, 1], landed[inside][:, 0]]]
    covered = inside & cover & ~moving[seen[0].instance]  # still points under a mover at the nearest pixel
    assert covered.sum() > 20
    assert (~truth.visible[covered]).double().mean() > 0.75  # the rest lies within half a pixel of an outline


@pytest.mark.parametrize("seed", range(2))
def test_random_arrangements_keep_everything_in_sight(seed):
    for objects in (("balloon", "ball", "crate"), ("flag", "ball")):
        spec = SceneSpec("room", seed=seed, frames=12, height=27, width=48, objects=objects)
        assert least_share(build_scene(spec)) > 0.005


def test_a_scene_without_or_with_displaced_objects_is_the_same_otherwise():
    kinds = ("balloon", "ball")
    whole = build_scene(SceneSpec("room", 3, 3, 24, 32, kinds))
    less = build_scene(SceneSpec("room", 3, 3, 24, 32, kinds, without=("balloon",)))
    moved = build_scene(SceneSpec("room", 3, 3, 24, 32, kinds, shift=(("ball", (0.5, 0.25, -1.0)),)))
    assert less.things == tuple(thing for thing in whole.things if thing.kind != "balloon")
    assert torch.equal(less.cameras.c2w, whole.cameras.c2w) and torch.equal(moved.cameras.c2w, whole.cameras.c2w)
    for one, two in zip(whole.things, moved.things):
        expected = one.motion.matrix(1.5)
        expected[:3, 3] += (0.5, 0.25, -1.0) if one.kind == "ball" else (0, 0, 0)
        np.testing.assert_allclose(two.motion.matrix(1.5), expected)
        assert two.texture == one.texture and two.moves == one.moves
    for change in ({"without": ("crate",)}, {"shift": (("crate", (0, 0, 0)),)}):
        with pytest.raises(ConfigError, match=f"{next(iter(change))}: 'crate' is not among the objects balloon, ball"):
            SceneSpec("room", 3, 3, 24, 32, kinds, **change)
