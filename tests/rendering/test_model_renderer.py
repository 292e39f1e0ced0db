"""Rendering of whole views: what it queries, closed forms of depth and flow, agreement with the training renderer."""

from dataclasses import replace

import pytest
import torch

from semflow.config.schema import RenderConfig
from semflow.geometry.spaces import camera_rays
from semflow.records import FieldSamples
from semflow.rendering.model_renderer import ModelRenderer, merge_samples
from semflow.rendering.renderer import Branches, Renderer
from semflow.rendering.samples import stratified
from tiny_scene import CLASSES, HEIGHT, TINY_SAMPLING, WIDTH, tiny_batch, tiny_cameras, tiny_context, tiny_model

EVERYTHING = frozenset({"rgb", "semantic", "depth", "flow", "entropy", "dynamic", "static"})
PIXELS = HEIGHT * WIDTH


def renderer_of(model, scene, **config) -> ModelRenderer:
    return ModelRenderer(model, {"toy": scene}, replace(RenderConfig(samples=8, chunk=PIXELS), **config))


def visible_model(**changes):
    """A model in which both fields are seen: densities well above zero."""
    model = tiny_model(density_scale=3.0, **changes)
    with torch.no_grad():
        for field in (model.static, model.dynamic):
            field.density.bias.add_(0.5)
        model.dynamic.blend.bias.fill_(0.3)
    return model


def count_calls(monkeypatch, owner, name: str) -> list:
    original, seen = getattr(owner, name), []
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: seen.append(args) or original(*args, **kwargs))
    return seen


def test_a_training_view_is_what_the_training_renderer_renders(monkeypatch):
    model = visible_model()
    scene = tiny_context(model)
    view = renderer_of(model, scene).render("toy", scene.cameras, 1, 1.0, EVERYTHING)
    u = stratified(PIXELS, 8, None, "cpu")
    monkeypatch.setattr(Renderer, "sample", lambda self, batch, generator: u)
    rays = camera_rays(scene.cameras, scene.space, 1, scene.cameras.pixels().flatten(0, 1))
    found = Renderer(model, Branches(full=True), TINY_SAMPLING, False).render(
        scene, replace(tiny_batch(scene, 1), rays=rays), torch.Generator()
    )
    torch.testing.assert_close(view.rgb.flatten(0, 1), found.full.rgb.clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(view.logits.flatten(0, 1), found.full.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(view.dynamic_opacity.flatten(), found.dynamic_share, atol=1e-5, rtol=0)
    torch.testing.assert_close(view.static_rgb.flatten(0, 1), found.static_view.rgb.clamp(0, 1), atol=1e-5, rtol=0)
    probabilities = view.logits.softmax(-1)
    torch.testing.assert_close(view.entropy, -(probabilities * probabilities.log()).sum(-1))
    assert view.logits.shape == (HEIGHT, WIDTH, CLASSES) and view.dynamic_opacity.max() > 0.1


@pytest.mark.parametrize("settings", [{}, {"fine_samples": 4}, {"occupancy": 4}])
@pytest.mark.parametrize("ray_attention", [False, True])
def test_chunks_do_not_matter(settings, ray_attention):
    model = visible_model(ray_attention=ray_attention)
    scene = tiny_context(model)
    whole, parts = (
        renderer_of(model, scene, chunk=chunk, **settings).render("toy", scene.cameras, 2, 1.0, EVERYTHING)
        for chunk in (PIXELS, 50)
    )
    for name, values in vars(whole).items():
        torch.testing.assert_close(getattr(parts, name), values, atol=1e-5, rtol=1e-5)


def test_evaluation_computes_no_neighbour_pass_and_keeps_the_static_part(monkeypatch):
    model = visible_model()
    scene = tiny_context(model)
    renderer = renderer_of(model, scene, chunk=50)
    chunks = -(-PIXELS // 50)
    dynamic, static, tracks = (
        count_calls(monkeypatch, model, name) for name in ("dynamic_samples", "static_samples", "track")
    )
    renderer.render("toy", scene.cameras, 1, 2.0, frozenset({"rgb", "semantic"}))
    assert len(dynamic) == len(static) == len(tracks) == chunks
    assert all(list(args[2].positions) == [-1, 0, 1] for args in dynamic)
    renderer.render("toy", scene.cameras, 1, 3.0, frozenset({"rgb"}))
    assert len(static) == chunks and len(dynamic) == 2 * chunks
    renderer.render("toy", scene.cameras, 0, 3.0, frozenset({"rgb"}))
    assert len(static) == 2 * chunks


def test_the_dynamic_field_can_be_left_out(monkeypatch):
    model = visible_model()
    scene = tiny_context(model)
    queried = count_calls(monkeypatch, model, "dynamic_samples")
    renderer = ModelRenderer(model, {"toy": scene}, RenderConfig(samples=8, chunk=50), static_only=True)
    view = renderer.render("toy", scene.cameras, 1, 2.0, EVERYTHING)
    torch.testing.assert_close(view.rgb, view.static_rgb)
    assert not queried and view.dynamic_opacity.abs().max() == 0


def test_point_features_need_no_flow_in_evaluation(monkeypatch):
    model = visible_model(aggregator="point")
    scene = tiny_context(model)
    velocities = count_calls(monkeypatch, model.flow, "velocity")
    renderer_of(model, scene).render("toy", scene.cameras, 1, 2.0, frozenset({"rgb", "semantic"}))
    assert not velocities


@pytest.mark.parametrize("time, same", [(-1.0, 0.0), (9.0, 3.0)])
def test_times_end_with_the_scene(time, same):
    model = visible_model()
    scene = tiny_context(model)
    renderer = renderer_of(model, scene)
    outside, at_end = (renderer.render("toy", scene.cameras, 1, t, EVERYTHING) for t in (time, same))
    for name, values in vars(at_end).items():
        assert torch.isfinite(values).all()
        torch.testing.assert_close(getattr(outside, name), values)


def test_between_frames_both_frames_are_mixed(monkeypatch):
    model = visible_model()
    scene = tiny_context(model)
    renderer, points = renderer_of(model, scene), torch.rand(6, 3) - 0.5
    maps = renderer.ready_maps("toy")
    monkeypatch.setattr(model.flow, "velocity", lambda points, *rest: torch.zeros_like(points))
    first, second, between = (renderer.dynamic_samples(scene, maps, points, time, 6) for time in (1.0, 2.0, 1.25))
    for name, values in vars(between).items():
        torch.testing.assert_close(values, 0.75 * getattr(first, name) + 0.25 * getattr(second, name))
    assert not torch.allclose(first.density, second.density)


def wall_at(scene, depth: float, color: float):
    """Samples of a field that is empty before the plane z = -depth and opaque behind it."""

    def samples(points):
        behind = scene.space.to_world(points)[:, 2] < -depth
        return FieldSamples(
            1e6 * behind.float(),
            torch.full((len(points), 3), color),
            torch.zeros(len(points), CLASSES),
            torch.ones(len(points)),
        )

    return samples


def test_the_depth_of_a_wall(monkeypatch):
    model = tiny_model()
    scene = tiny_context(model)
    monkeypatch.setattr(
        model, "static_samples", lambda s, m, points, d, source: replace(wall_at(scene, 2.5, 0.3)(points), blend=None)
    )
    monkeypatch.setattr(
        model,
        "dynamic_samples",
        lambda s, m, track, rays: FieldSamples(
            *(0 * value for value in vars(wall_at(scene, 2.5, 0.0)(track.positions[0])).values())
        ),
    )
    pixels = scene.cameras.pixels()
    directions = scene.cameras.directions(1, pixels.flatten(0, 1))
    expected = ((-2.5 - scene.cameras.center(1)[2]) / directions[:, 2]).view(HEIGHT, WIDTH)
    errors = []
    for config in ({"samples": 32}, {"samples": 128}, {"samples": 32, "fine_samples": 32}):
        view = renderer_of(model, scene, **config).render("toy", scene.cameras, 1, 1.0, EVERYTHING)
        errors.append((view.depth - expected).abs().max().item())
        torch.testing.assert_close(view.rgb, torch.full((HEIGHT, WIDTH, 3), 0.3))
        assert view.dynamic_opacity.abs().max() == 0 and view.flow.abs().max() == 0
    assert errors[0] < 0.15 and errors[1] < errors[0] / 2.5 and errors[2] < errors[0] / 1.7


@pytest.mark.parametrize("time", [1.0, 3.0])
def test_the_flow_of_a_moving_wall(monkeypatch, time):
    """All points move by one world step; at the last frame the step before is continued."""
    model = tiny_model()
    scene = tiny_context(model)
    step = torch.tensor([0.2, -0.1, 0.0])
    wall = wall_at(scene, 2.5, 0.6)
    monkeypatch.setattr(
        model,
        "static_samples",
        lambda s, m, points, d, source: FieldSamples(
            torch.zeros(len(points)), torch.zeros(len(points), 3), torch.zeros(len(points), CLASSES)
        ),
    )
    monkeypatch.setattr(model, "dynamic_samples", lambda s, m, track, rays: wall(track.positions[0]))
    monkeypatch.setattr(
        model.flow,
        "advect",
        lambda points, at, offset, *rest: scene.space.from_world(scene.space.to_world(points) + offset * step),
    )
    view = renderer_of(model, scene, samples=128).render("toy", scene.cameras, 1, time, EVERYTHING)
    world = scene.cameras.lift(scene.cameras.pixels().flatten(0, 1), view.depth.flatten(), 1)
    moved, _ = scene.cameras.project(world + step, 1)
    expected = moved.view(HEIGHT, WIDTH, 2) - scene.cameras.pixels()
    torch.testing.assert_close(view.flow, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(view.dynamic_opacity, torch.ones(HEIGHT, WIDTH))
    torch.testing.assert_close(view.dynamic_rgb, torch.full((HEIGHT, WIDTH, 3), 0.6))


def test_space_without_dynamic_density_is_skipped(monkeypatch):
    model = visible_model()
    with torch.no_grad():
        model.dynamic.blend.bias.fill_(-60.0)
    scene = tiny_context(model)
    renderer = renderer_of(model, scene, occupancy=3)
    first = renderer.render("toy", scene.cameras, 1, 1.0, EVERYTHING)
    queried = count_calls(monkeypatch, model, "dynamic_samples")
    view = renderer.render("toy", scene.cameras, 2, 1.0, EVERYTHING)
    assert not queried  # the grid of the time is kept, and nothing is occupied
    for found in (first, view):
        torch.testing.assert_close(found.rgb, found.static_rgb)
        assert found.dynamic_opacity.abs().max() == 0


def test_the_grid_changes_nothing_where_everything_is_occupied():
    model = visible_model()
    scene = tiny_context(model)
    plain, gridded = (
        renderer_of(model, scene, occupancy=cells).render("toy", scene.cameras, 1, 1.0, EVERYTHING) for cells in (0, 3)
    )
    for name, values in vars(plain).items():
        torch.testing.assert_close(getattr(gridded, name), values, atol=1e-5, rtol=1e-5)


def test_any_size_and_the_density_prior_as_an_option():
    model = visible_model()
    scene = tiny_context(model)
    small = tiny_cameras(4).resized(6, 8)
    plain, uniform = (
        renderer_of(model, scene, flow_density_prior=prior).render("toy", small, 0, 0.5, EVERYTHING)
        for prior in (True, False)
    )
    assert plain.rgb.shape == (6, 8, 3) and plain.flow.shape == (6, 8, 2)
    torch.testing.assert_close(plain.rgb, uniform.rgb)
    assert not torch.allclose(plain.logits, uniform.logits)


def test_merged_samples_stay_together():
    u, more = torch.tensor([[0.1, 0.5, 0.9]]), torch.tensor([[0.2, 0.8]])
    made = [FieldSamples(v, v[..., None].expand(-1, -1, 3), 10 * v[..., None].expand(-1, -1, 2)) for v in (u, more)]
    merged, samples = merge_samples(u, made[0], more, made[1])
    torch.testing.assert_close(merged, torch.tensor([[0.1, 0.2, 0.5, 0.8, 0.9]]))
    torch.testing.assert_close(samples.density, merged)
    torch.testing.assert_close(samples.rgb[..., 1], merged)
    torch.testing.assert_close(samples.logits[..., 0], 10 * merged)
