"""Rendering that skips what cannot be seen, against rendering that asks everywhere."""

from dataclasses import fields, replace

import pytest
import torch
from toys import StandInModel, context_of, make_scene, sliding_cameras, tiny_model, turning_cameras

from semflow.config.schema import RenderConfig
from semflow.geometry.spaces import make_space
from semflow.records import View
from semflow.rendering.model_renderer import ModelRenderer, rays_at_once
from semflow.rendering.static_rays import Asked
from semflow.utils.errors import SemflowError

EVERYTHING = frozenset({"rgb", "semantic", "depth", "flow", "entropy", "dynamic", "static"})
SURFACES = 1  # seed of random surfaces that neither fill space nor leave it empty
CAMERAS = sliding_cameras(3, height=12, width=16, focal=20.0)


def render(model, context=None, cameras=CAMERAS, camera=1, time=1.0, **config) -> View:
    target = ModelRenderer(model, {"toy": context or context_of(cameras)}, RenderConfig(**({"samples": 48, "occupancy": 0} | config)))
    return target.render("toy", cameras, camera, time, EVERYTHING)


def assert_near(one: View, two: View, tolerance: float) -> None:
    for item in fields(View):
        torch.testing.assert_close(getattr(one, item.name), getattr(two, item.name), atol=tolerance, rtol=tolerance)


def solid_model(**changes):
    """Tiny networks with random surfaces, static ones and moving ones, in front of each other."""
    cameras = turning_cameras(3, 6, 8)
    rgb = torch.rand(3, 6, 8, 3, generator=torch.Generator().manual_seed(2))
    scene = make_scene(cameras, rgb=rgb, **changes.pop("scene", {}))
    model, (context,) = tiny_model([scene], density_scale=60.0, octaves=1, **changes)
    torch.manual_seed(SURFACES)
    for field in (model.static, model.dynamic):
        torch.nn.init.normal_(field.density.weight, std=2.0)
        torch.nn.init.constant_(field.density.bias, -0.3)
    torch.nn.init.normal_(model.dynamic.blend.weight, std=3.0)
    torch.nn.init.normal_(model.flow.last.weight, std=0.02)
    return model, context, cameras


def test_the_stand_in_is_the_same_with_far_less_work():
    dense, sparse = StandInModel(), StandInModel()
    whole = render(dense, fine_samples=12)
    target = ModelRenderer(sparse, {"toy": context_of(CAMERAS)}, RenderConfig(samples=48, fine_samples=12, occupancy=24))
    target.render("toy", CAMERAS, 0, 1.0, EVERYTHING)  # makes the grids
    sparse.static_queries = sparse.static_looks = sparse.dynamic_queries = sparse.dynamic_looks = 0
    assert_near(target.render("toy", CAMERAS, 1, 1.0, EVERYTHING), whole, 2e-4)
    rays = CAMERAS.height * CAMERAS.width
    assert dense.static_queries == dense.static_looks == dense.dynamic_looks == rays * 60
    assert sparse.static_queries < 0.5 * dense.static_queries and sparse.static_looks < 0.1 * dense.static_looks
    assert 0 < sparse.dynamic_looks < sparse.dynamic_queries < 0.2 * dense.dynamic_queries


@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_nothing_static_at_all(radius, monkeypatch):
    monkeypatch.setattr(StandInModel, "WALL_U", 2.0)
    assert_near(render(StandInModel(radius=radius), occupancy=12), render(StandInModel(radius=radius)), 2e-4)


@pytest.mark.parametrize("time", [1.0, 0.5])
def test_nothing_dynamic_between_frames_and_at_them(time):
    model = StandInModel(radius=0.0)
    view = render(model, time=time, occupancy=12)
    assert torch.equal(view.rgb, view.static_rgb) and not view.dynamic_opacity.any()


def test_what_the_dynamic_field_switches_off_shows_what_is_behind():
    """Blending 1 without density makes a hole in the wall: the static samples behind the first one count again."""

    class Hole(StandInModel):
        def static_solid(self, scene, maps, points, source):
            solid = super().static_solid(scene, maps, points, source)
            sheet = (points[:, 2] - 0.1).abs() < 0.06
            return replace(solid, density=torch.where(sheet, 400.0, solid.density))

        def static_appearance(self, solid, view_dirs):
            rgb, logits = super().static_appearance(solid, view_dirs)
            return rgb * solid.hidden[:, 2:], logits

        def dynamic_solid(self, scene, maps, track, rays):
            solid = super().dynamic_solid(scene, maps, track, rays)
            at = track.positions[0]
            inside = ((at[:, 2] - 0.1).abs() < 0.1).float()
            return replace(solid, density=0.0 * inside, blend=0.999 * inside)

    whole, sparse = render(Hole()), render(Hole(), occupancy=24)
    assert (whole.rgb - whole.static_rgb).abs().max() > 0.05
    assert_near(sparse, whole, 2e-3)


@pytest.mark.parametrize("changes", [
    {}, {"ray_attention": True}, {"encoding": "planes"}, {"aggregator": "point"}, {"density_activation": "softplus"}])
@pytest.mark.parametrize("time", [0.0, 1.4])
def test_networks_with_surfaces_look_the_same(changes, time):
    model, context, cameras = solid_model(**changes)
    if time == 1.4:  # mixing two frames pairs the density of one with the blending of the other, which shows in neither
        torch.nn.init.zeros_(model.dynamic.blend.weight)
        torch.nn.init.ones_(model.dynamic.blend.bias)
    dense = render(model, context, cameras, time=time, samples=24, fine_samples=8)
    sparse = render(model, context, cameras, time=time, samples=24, fine_samples=8, occupancy=32)
    assert 0.002 < float(dense.dynamic_opacity.mean()) < 0.99
    assert float((sparse.rgb - dense.rgb).abs().mean()) < 1e-3
    assert float((sparse.logits - dense.logits).abs().mean()) < 1e-3
    parts = render(model, context, cameras, time=time, samples=24, fine_samples=8, occupancy=32, chunk=5)
    assert_near(parts, sparse, 1e-4)


def test_metric_space_and_a_camera_outside_the_box():
    cameras = turning_cameras(3, 6, 8)
    model, context, _ = solid_model(scene={"space": make_space("metric", cameras, False)})
    aside = replace(cameras, c2w=cameras.c2w + torch.tensor([0.0, 0.0, 0.0, 1.5]))
    for view in (cameras, aside):
        dense, sparse = (render(model, context, view, samples=24, occupancy=cells) for cells in (0, 32))
        assert float((sparse.rgb - dense.rgb).abs().mean()) < 1e-3


def test_every_scene_has_its_own_grids():
    class Shifted(StandInModel):
        def dynamic_solid(self, scene, maps, track, rays):
            solid = super().dynamic_solid(scene, maps, track, rays)
            return replace(solid, density=solid.density * scene.index, blend=solid.blend * scene.index)

    scenes = {name: context_of(CAMERAS, index) for index, name in enumerate(("without", "with"))}
    target = ModelRenderer(Shifted(), scenes, RenderConfig(samples=48, occupancy=12))
    shares = [target.render(name, CAMERAS, 1, 1.0, EVERYTHING).dynamic_opacity.max() for name in ("without", "with")]
    assert shares[0] == 0 and shares[1] > 0.9


def test_uniform_logits_need_every_sample():
    model = StandInModel()
    render(model, occupancy=12, flow_density_prior=False)
    assert model.static_looks == model.dynamic_looks == CAMERAS.height * CAMERAS.width * 48


def test_merged_samples_are_sorted_and_stay_together():
    generator = torch.Generator().manual_seed(0)

    def asked(count: int) -> Asked:
        u = torch.rand(4, count, generator=generator).sort(dim=1).values
        wanted = u < 0.7
        row = torch.full_like(wanted, -1, dtype=torch.int64)
        row[wanted] = torch.arange(int(wanted.sum()))
        return Asked(u, 10 * u * wanted, wanted, row, 3 * u[wanted][:, None])

    one, two = asked(5), asked(3)
    both = one.merged(two)
    assert torch.equal(both.u, torch.cat([one.u, two.u], dim=1).sort(dim=1).values)
    assert torch.equal(both.known, both.u < 0.7)
    torch.testing.assert_close(both.density, 10 * both.u * both.known)
    torch.testing.assert_close(both.hidden[both.row[both.known], 0], 3 * both.u[both.known])
    assert (both.row[~both.known] == -1).all()


class Hungry(StandInModel):
    """Memory runs out beyond so many points, in the field of that name."""

    def __init__(self, name: str, points: int, error: Exception):
        super().__init__()
        self.name, self.points, self.error = name, points, error

    def limit(self, name: str, points) -> None:
        if name == self.name and len(points) > self.points:
            raise self.error

    def static_solid(self, scene, maps, points, source):
        self.limit("static", points)
        return super().static_solid(scene, maps, points, source)

    def dynamic_solid(self, scene, maps, track, rays):
        self.limit("dynamic", track.positions[0])
        return super().dynamic_solid(scene, maps, track, rays)


CPU_SHORTAGE = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.mark.parametrize("name", ["static", "dynamic"])
@pytest.mark.parametrize("error", [RuntimeError(CPU_SHORTAGE), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_too_little_memory_halves_the_chunks(name, error, capsys):
    view = render(Hungry(name, 48 * 30, error), chunk=100)
    assert_near(view, render(StandInModel()), 1e-5)
    said = capsys.readouterr().out.splitlines()
    assert [line.split("with ")[1] for line in said] == ["50 rays at once (render.chunk)", "25 rays at once (render.chunk)"]


def test_too_little_memory_for_one_ray_is_a_clear_error():
    with pytest.raises(SemflowError, match="not enough memory to render a single ray"):
        render(Hungry("static", 47, MemoryError()), chunk=2)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        render(Hungry("static", 1, RuntimeError("shapes do not fit")))


def test_chunks_follow_the_free_memory_and_the_networks(monkeypatch):
    model, config = solid_model()[0], RenderConfig(samples=64)
    cpu = torch.device("cpu")

    def chosen(free: float) -> int:
        monkeypatch.setattr("semflow.rendering.model_renderer.free_memory", lambda device: int(free))
        return rays_at_once(model, config, cpu)

    assert chosen(1e12) == 2**16 // 64  # what is fast
    assert chosen(8e6) == 8e6 // 4 // (64 * 4 * 12 * model.widest_layer)
    assert chosen(0) == 1
