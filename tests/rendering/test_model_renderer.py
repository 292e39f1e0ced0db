"""Whole views of a closed-form stand-in: a wall, and a ball that moves; and the same with real networks."""

import math
from dataclasses import fields, replace

import pytest
import torch
from toys import StandInModel, context_of, make_scene, sliding_cameras, tiny_model, turning_cameras

from semflow.config.schema import RenderConfig
from semflow.records import View
from semflow.rendering.dynamic_rays import GREY
from semflow.rendering.model_renderer import ModelRenderer

EVERYTHING = frozenset({"rgb", "semantic", "depth", "flow", "entropy", "dynamic", "static"})
FIELD_OF = {"rgb": "rgb", "semantic": "logits", "depth": "depth", "flow": "flow", "entropy": "entropy",
            "dynamic": "dynamic_rgb", "static": "static_rgb"}
HEIGHT, WIDTH, MIDDLE = 18, 24, 1
CAMERAS = sliding_cameras(3, height=HEIGHT, width=WIDTH, focal=30.0)  # the middle camera is the one of the NDC


def renderer(model=None, cameras=CAMERAS, **config) -> ModelRenderer:
    model = model or StandInModel()
    return ModelRenderer(model, {"toy": context_of(cameras)}, RenderConfig(**({"samples": 48, "occupancy": 0} | config)))


def shot(target: ModelRenderer, time: float = 1.0, camera: int = MIDDLE, what=EVERYTHING, cameras=CAMERAS) -> View:
    return target.render("toy", cameras, camera, time, what)


def assert_same(one: View, two: View, tolerance: float = 1e-5) -> None:
    for item in fields(View):
        first, second = getattr(one, item.name), getattr(two, item.name)
        if first is None or second is None:
            assert first is second
        else:
            torch.testing.assert_close(first, second, atol=tolerance, rtol=0)


def difference(one: View, two: View) -> float:
    return float((one.rgb - two.rgb).abs().max())


def ball_pixels(time: float) -> torch.Tensor:
    """(H, W) distance in NDC of each pixel of the middle camera from the centre of the ball, in its radii."""
    model = StandInModel()
    centre = model.centre + time * model.shift
    uv = CAMERAS.pixels()
    x, y = 2 * uv[..., 0] / WIDTH - 1, 1 - 2 * uv[..., 1] / HEIGHT
    return torch.hypot(x - centre[0], y - centre[1]) / model.radius


@pytest.mark.parametrize("wanted", [*FIELD_OF, "rgb,semantic", "flow,depth,static"])
def test_exactly_what_is_asked_for_is_rendered(wanted):
    names = wanted.split(",")
    view = shot(renderer(), what=frozenset(names))
    present = {item.name for item in fields(View) if getattr(view, item.name) is not None}
    assert present == {FIELD_OF[name] for name in names} | {"dynamic_opacity"}
    everything = shot(renderer())
    for name in present:
        torch.testing.assert_close(getattr(view, name), getattr(everything, name))


def test_shapes_and_ranges():
    view = shot(renderer())
    assert view.rgb.shape == view.static_rgb.shape == view.dynamic_rgb.shape == (HEIGHT, WIDTH, 3)
    assert view.flow.shape == (HEIGHT, WIDTH, 2) and view.logits.shape == (HEIGHT, WIDTH, 3)
    assert view.depth.shape == view.entropy.shape == view.dynamic_opacity.shape == (HEIGHT, WIDTH)
    assert 0 <= view.rgb.min() and view.rgb.max() <= 1


@pytest.mark.parametrize("time", [0.0, 1.0, 2.0, 0.5])
def test_the_ball_hides_the_wall_where_it_is_and_nowhere_else(time):
    view, distance = shot(renderer(), time), ball_pixels(time)
    inside, outside = distance < 0.85, distance > 1.0
    assert inside.sum() > 5
    assert view.dynamic_opacity[inside].min() > 0.99
    assert view.dynamic_opacity[outside].max() == 0.0
    assert (view.labels[inside] == 1).all()
    columns = torch.arange(WIDTH).expand(HEIGHT, -1)
    assert torch.equal(view.labels[outside], torch.where(columns < WIDTH // 2, 0, 2)[outside])
    red = torch.tensor([0.9, 0.1, 0.1])
    torch.testing.assert_close(view.rgb[inside], red.expand(int(inside.sum()), 3), atol=0.01, rtol=0)
    torch.testing.assert_close(view.dynamic_rgb[inside], red.expand(int(inside.sum()), 3), atol=0.01, rtol=0)
    assert (view.dynamic_rgb[outside] == GREY).all()
    torch.testing.assert_close(view.rgb[outside], view.static_rgb[outside])


def test_depth_is_that_of_the_surface():
    view, distance = shot(renderer(samples=192)), ball_pixels(1.0)
    wall = 1 / (1 - StandInModel.WALL_U)
    assert (view.depth[distance > 1.0] - wall).abs().max() < 0.04 * wall
    front = 1 / (1 - (StandInModel().centre[2] - StandInModel().radius + 1) / 2)  # the ball's nearest point
    nearest = int(distance.argmin())
    assert view.depth.view(-1)[nearest] == pytest.approx(float(front), rel=0.04)


def test_entropy_is_that_of_the_class_probabilities():
    view = shot(renderer())
    wall = view.dynamic_opacity == 0
    others = 2 + math.exp(5.0)
    expected = math.log(others) - 5.0 * math.exp(5.0) / others
    torch.testing.assert_close(view.entropy[wall], torch.full_like(view.entropy[wall], expected), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("time", "camera"), [(0.0, 1), (1.0, 1), (2.0, 1), (0.5, 1), (1.5, 1), (1.0, 0)])
def test_flow_is_the_projected_motion_of_the_ball_and_zero_on_the_wall(time, camera):
    """In NDC, a shift is half the image per unit, in the middle camera; y points up there and down in pixels."""
    view = shot(renderer(), time, camera)
    ball, wall = view.dynamic_opacity > 0.99, view.dynamic_opacity == 0
    assert ball.sum() > 10 and wall.sum() > 10
    assert (view.flow[wall] == 0).all()
    expected = torch.tensor([0.1 * WIDTH / 2, 0.05 * HEIGHT / 2]).expand(int(ball.sum()), 2)
    torch.testing.assert_close(view.flow[ball], expected, atol=2e-3, rtol=0)  # a shift at one depth, so for all cameras


def test_occupancy_changes_nothing_but_the_work():
    for time in (0.0, 1.0, 0.5):
        dense, sparse = StandInModel(), StandInModel()
        whole = shot(renderer(dense), time)
        target = renderer(sparse, occupancy=24)
        shot(target, time)  # makes the grid
        sparse.dynamic_queries = 0
        assert_same(shot(target, time), whole)
        assert sparse.dynamic_queries < dense.dynamic_queries / 4


def test_an_occupancy_grid_belongs_to_its_time():
    fast = {"velocity": (0.5, 0.0, 0.0), "centre": (-0.5, 0.0, -0.2)}
    target = renderer(StandInModel(**fast), occupancy=24)
    for time in (0.0, 2.0, 0.0):
        assert_same(shot(target, time), shot(renderer(StandInModel(**fast)), time))


def test_nothing_dynamic_leaves_the_static_rendering():
    view = shot(renderer(StandInModel(radius=0.0), occupancy=8))
    assert torch.equal(view.rgb, view.static_rgb)
    assert not view.dynamic_opacity.any() and not view.flow.any()


def test_an_untrained_dynamic_field_can_be_left_out():
    model = StandInModel()
    target = ModelRenderer(model, {"toy": context_of(CAMERAS)}, RenderConfig(samples=48, occupancy=8), static_only=True)
    view = shot(target)
    assert torch.equal(view.rgb, view.static_rgb) and not view.dynamic_opacity.any()
    assert model.dynamic_queries == 0


@pytest.mark.parametrize("config", [{}, {"occupancy": 16}, {"fine_samples": 12}, {"flow_density_prior": False}])
def test_the_size_of_the_chunks_does_not_matter(config):
    assert_same(shot(renderer(chunk=37, **config)), shot(renderer(**config)))


def test_the_static_part_of_a_camera_is_queried_once():
    model = StandInModel()
    target = renderer(model)
    shot(target, 0.0)
    queries = model.static_queries
    assert queries == HEIGHT * WIDTH * 48
    for time in (0.0, 2.0, 0.7):
        assert_same(shot(target, time), shot(renderer(), time))
    assert model.static_queries == queries


def test_another_camera_size_or_scene_is_rendered_anew():
    target = renderer()
    shot(target)
    larger, sharper = CAMERAS.resized(2 * HEIGHT, 2 * WIDTH), replace(CAMERAS, focal=33.0)
    for cameras, camera in ((CAMERAS, 0), (CAMERAS, MIDDLE), (larger, MIDDLE), (sharper, MIDDLE), (CAMERAS, MIDDLE)):
        view = shot(target, 1.0, camera, cameras=cameras)
        assert view.rgb.shape == (cameras.height, cameras.width, 3)
        assert_same(view, shot(renderer(), 1.0, camera, cameras=cameras))
    assert difference(shot(target, camera=0), shot(target, camera=2)) > 0.1

    class Wider(StandInModel):
        def static_solid(self, scene, maps, points, source):
            solid = super().static_solid(scene, maps, points, source)
            return replace(solid, hidden=torch.cat([points, torch.full_like(points[:, :1], scene.index)], dim=1))

        def static_appearance(self, solid, view_dirs):
            rgb, logits = super().static_appearance(solid, view_dirs)
            return rgb * (1.0 - 0.5 * solid.hidden[:, 3:]), logits

    scenes = {"one": context_of(CAMERAS, 0), "two": context_of(CAMERAS, 1)}
    both = ModelRenderer(Wider(), scenes, RenderConfig(samples=48, occupancy=0))
    one, two = (both.render(name, CAMERAS, MIDDLE, 1.0, EVERYTHING) for name in ("one", "two"))
    torch.testing.assert_close(two.static_rgb, 0.5 * one.static_rgb)


def test_static_features_come_from_half_a_clip_away():
    """The frame at hand would let its own foreground leak in; the kept static part follows the source."""
    model = StandInModel()
    context = replace(context_of(sliding_cameras(4, height=HEIGHT, width=WIDTH, focal=30.0)), image=object())
    target = ModelRenderer(model, {"toy": context}, RenderConfig(samples=8, occupancy=0))
    for time, source in ((0.0, 2), (1.0, 3), (3.0, 1), (2.0, 0)):
        shot(target, time)
        assert model.sources[-1] == source


def test_times_between_frames_are_continuous_and_meet_the_frames():
    target = renderer(samples=96)
    at_one = shot(target, 1.0)
    assert_same(shot(target, 1), at_one)
    for near in (1.0 - 1e-4, 1.0 + 1e-4):
        assert (shot(target, near).rgb - at_one.rgb).abs().mean() < 1e-3
    assert difference(shot(target, 0.5), at_one) > 0.1
    for time in (0.25, 0.5, 1.75):  # the flow carries the ball of both frames to the same place: no ghosts
        share = shot(target, time).dynamic_opacity
        weight = share / share.sum()
        centre = (CAMERAS.pixels() * weight[..., None]).sum((0, 1))
        model = StandInModel()
        x, y, _ = (model.centre + time * model.shift).tolist()
        expected = torch.tensor([(x + 1) * WIDTH / 2, (1 - y) * HEIGHT / 2])
        torch.testing.assert_close(centre, expected, atol=0.25, rtol=0)
        assert int((share > 0.5).sum()) == pytest.approx(int((at_one.dynamic_opacity > 0.5).sum()), abs=8)


def test_times_outside_the_clip_are_its_ends():
    target = renderer()
    assert_same(shot(target, -3.0), shot(target, 0.0))
    assert_same(shot(target, 99.0), shot(target, 2.0))


def test_fine_samples_sharpen_the_wall():
    wall = 1 / (1 - StandInModel.WALL_U)
    coarse, fine = (shot(renderer(samples=12, fine_samples=extra)).depth for extra in (0, 24))
    far = ball_pixels(1.0) > 1.0
    assert (fine - wall).abs()[far].mean() < 0.5 * (coarse - wall).abs()[far].mean()


@pytest.mark.parametrize("ray_attention", [False, True])
def test_real_networks_give_the_same_view_in_chunks_and_with_occupancy(ray_attention):
    cameras = turning_cameras(3, 6, 8)
    rgb = torch.rand(3, 6, 8, 3, generator=torch.Generator().manual_seed(2))
    model, (context,) = tiny_model([make_scene(cameras, rgb=rgb)], ray_attention=ray_attention)
    torch.nn.init.ones_(model.dynamic.density.bias)  # density everywhere, so that no cell may be skipped

    def view(time, **config):
        target = ModelRenderer(model, {"toy": context}, RenderConfig(**({"samples": 10, "occupancy": 0} | config)))
        return target.render("toy", cameras, 1, time, EVERYTHING)

    for time in (0.0, 1.4):
        whole = view(time)
        assert all(getattr(whole, FIELD_OF[name]).isfinite().all() for name in EVERYTHING)
        assert 0 < float(whole.dynamic_opacity.max())
        assert_same(view(time, chunk=11), whole, 2e-5)
        assert_same(view(time, occupancy=6), whole, 2e-5)
    assert not model.training
