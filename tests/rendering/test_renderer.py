"""The training renderer: the branches that are asked for and no others, the ends of a scene, rays by themselves."""

from dataclasses import replace

import pytest
import torch

from semflow.config.schema import PAPER_DYNAMIC_LOSSES, PAPER_STATIC_LOSSES, LossConfig
from semflow.fields.flow import Timeline
from semflow.losses import LossSet
from semflow.rendering.compositing import composite, composite_blended, sample_distances
from semflow.rendering.renderer import Branches, Renderer
from semflow.rendering.samples import stratified
from tiny_scene import CLASSES, TINY_SAMPLING, tiny_batch, tiny_context, tiny_model
from toys import rendered

EVERYTHING = Branches(static=True, dynamic=True, full=True, track=True, neighbours=True, second_track=True)
RAYS = 8


@pytest.fixture(scope="module")
def model():
    return tiny_model(frames=(4,))


@pytest.fixture(scope="module")
def scene(model):
    return tiny_context(model)


def render(model, scene, frame=1, branches=EVERYTHING, batch=None, seed=0, frozen=False, **sampling):
    batch = tiny_batch(scene, frame, RAYS) if batch is None else batch
    renderer = Renderer(model, branches, replace(TINY_SAMPLING, **sampling), frozen)
    return rendered(renderer, scene, batch, torch.Generator().manual_seed(seed))


def calls(monkeypatch, model, *paths: str) -> dict[str, int]:
    """Count the calls of parts of the model, `paths` like `flow.velocities`."""
    counts = dict.fromkeys(paths, 0)

    def watch(path):
        owner, name = model, path
        while "." in name:
            part, name = name.split(".", 1)
            owner = getattr(owner, part)
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[path] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    for path in paths:
        watch(path)
    return counts


def test_branches_unite():
    union = Branches(static=True) | Branches(neighbours=True) | Branches()
    assert union == Branches(static=True, neighbours=True)
    assert Branches() | EVERYTHING == EVERYTHING


def test_a_static_step_touches_neither_the_dynamic_field_nor_the_flow(monkeypatch, model, scene):
    counts = calls(
        monkeypatch,
        model,
        "dynamic.forward",
        "flow.velocities",
        "flow.tracks",
        "aggregator.forward",
        "aggregator.project",
        "static.forward",
    )
    found = render(model, scene, branches=LossSet(PAPER_STATIC_LOSSES, False).branches)
    assert counts == {
        "dynamic.forward": 0,
        "flow.velocities": 0,
        "flow.tracks": 0,
        "aggregator.forward": 0,
        "aggregator.project": 0,
        "static.forward": 1,
    }
    assert found.static_view is not None
    for name in ("dynamic", "dynamic_view", "full", "dynamic_share", "track", "neighbours"):
        assert getattr(found, name) is None


@pytest.mark.parametrize("branches", [Branches(dynamic=True), Branches(full=True, track=True)])
def test_without_warped_renderings_there_are_no_neighbours(model, scene, branches):
    """None, not an empty mean that a loss would take for one."""
    assert render(model, scene, branches=branches).neighbours is None


@pytest.mark.parametrize(
    "branches, dynamic, static, tracks",
    [
        (Branches(dynamic=True), 1, 0, 1),
        (Branches(full=True), 1, 1, 1),
        (Branches(dynamic=True, track=True), 1, 0, 1),
        (Branches(full=True, neighbours=True), 1, 1, 2),  # the warped points are asked together with those of the frame
        (EVERYTHING, 1, 1, 2),
    ],
)
def test_fields_are_queried_as_often_as_the_branches_need(monkeypatch, model, scene, branches, dynamic, static, tracks):
    counts = calls(monkeypatch, model, "dynamic.forward", "static.forward", "flow.tracks")
    render(model, scene, branches=branches)
    assert counts == {"dynamic.forward": dynamic, "static.forward": static, "flow.tracks": tracks}


def test_no_flow_is_computed_where_nothing_reads_it(monkeypatch):
    model = tiny_model(aggregator="point")
    scene = tiny_context(model)
    counts = calls(monkeypatch, model, "flow.velocities")
    render(model, scene, branches=Branches(full=True))
    assert counts["flow.velocities"] == 0
    found = render(model, scene, branches=Branches(full=True, track=True))
    # two sub-steps: both directions share the first, and take the second together
    assert counts["flow.velocities"] == 2 and list(found.track.positions) == [-1, 0, 1]


@pytest.mark.parametrize(
    "name", [name for name in vars(PAPER_DYNAMIC_LOSSES) if name not in ("plane_variation", "plane_time")]
)
def test_every_loss_can_be_the_only_one(model, scene, name):
    losses = LossSet(LossConfig(**{name: 1.0}), moving_only=False)
    batch = tiny_batch(scene, 1)
    total, terms = losses(render(model, scene, branches=losses.branches, batch=batch), batch, scene, model)
    assert list(terms) == [name] and torch.isfinite(total)


def test_renderings_are_the_composites_of_the_samples(model, scene):
    batch = tiny_batch(scene, 1, RAYS)
    found = render(model, scene, batch=batch)
    distances = sample_distances(found.u, batch.rays.directions)
    torch.testing.assert_close(found.points, batch.rays.at(found.u))
    torch.testing.assert_close(found.track.positions[0], found.points.flatten(0, 1))
    full, share = composite_blended(found.static, found.dynamic, found.u, distances)
    for view, expected in (
        (found.static_view, composite(found.static, found.u, distances)),
        (found.full, full),
        (found.dynamic_view, composite(found.dynamic, found.u, distances)),
    ):
        for name in vars(expected):
            torch.testing.assert_close(getattr(view, name), getattr(expected, name))
    torch.testing.assert_close(found.dynamic_share, share)
    assert found.full.rgb.shape == (RAYS, 3) and found.full.logits.shape == (RAYS, CLASSES)
    assert found.dynamic.blend.shape == (RAYS, TINY_SAMPLING.samples) and found.static.blend is None


@pytest.mark.parametrize("offset", [-1, 1])
def test_warped_renderings_are_the_neighbour_at_the_moved_points_along_the_same_rays(model, scene, offset):
    batch = tiny_batch(scene, 1, RAYS)
    found = render(model, scene, batch=batch)
    neighbour, maps = found.neighbours[offset], model.ready_maps(scene, [0, 1, 2, 3], [])
    moved = model.flow.advect(found.points.flatten(0, 1), 1, offset, Timeline(4), maps.code)
    torch.testing.assert_close(neighbour.track.positions[0], moved)
    assert neighbour.track.frame == 1 + offset
    track = model.track(scene, maps, moved, 1 + offset)
    assert set(track.positions) == {o for o in (-1, 0, 1) if 0 <= 1 + offset + o <= 3} == set(neighbour.track.positions)
    samples = model.dynamic_samples(scene, maps, [track], [RAYS])[0].on_rays(RAYS)
    torch.testing.assert_close(neighbour.samples.logits, samples.logits)
    expected = composite(samples, found.u, sample_distances(found.u, batch.rays.directions))
    torch.testing.assert_close(neighbour.rendering.rgb, expected.rgb)


@pytest.mark.parametrize("frame, offsets", [(0, [1]), (1, [-1, 1]), (3, [-1])])
@pytest.mark.parametrize(
    "aggregator, length", [("attention", 3), ("attention", 5), ("mean", 3), ("point", 1), ("none", 1)]
)
def test_the_ends_of_a_scene(frame, offsets, aggregator, length):
    model = tiny_model(aggregator=aggregator, flow_length=length)
    scene = tiny_context(model)
    losses = LossSet(PAPER_DYNAMIC_LOSSES, moving_only=False)
    batch = tiny_batch(scene, frame)
    found = render(model, scene, batch=batch, branches=losses.branches)
    assert list(found.neighbours) == offsets
    reach = max(1, length // 2)
    assert list(found.track.positions) == [o for o in range(-reach, reach + 1) if 0 <= frame + o <= 3]
    total, terms = losses(found, batch, scene, model)
    assert all(torch.isfinite(value) for value in terms.values()) and total > 0


def test_permuted_rays_give_permuted_outputs(monkeypatch, model, scene):
    batch, order = tiny_batch(scene, 1, RAYS), torch.randperm(RAYS, generator=torch.Generator().manual_seed(3))
    shuffled = replace(
        batch,
        rays=batch.rays.select(order),
        rgb=batch.rgb[order],
        surface_u=batch.surface_u[order],
    )
    u = stratified(RAYS, 6, torch.Generator().manual_seed(1), "cpu")
    monkeypatch.setattr(Renderer, "sample", lambda self, given, generator: u if given is batch else u[order])
    found, permuted = render(model, scene, batch=batch), render(model, scene, batch=shuffled)
    for one, other in ((found, permuted), (found.neighbours[1], permuted.neighbours[1])):
        renderings = ("full", "static_view", "dynamic_view") if one is found else ("rendering",)
        for view in renderings:
            for name in ("rgb", "logits", "depth", "opacity", "weights"):
                torch.testing.assert_close(
                    getattr(getattr(one, view), name)[order], getattr(getattr(other, view), name)
                )


def test_on_moving_rays_only(model, scene):
    """The warped renderings of the moving rays alone are those rays of the full ones."""
    found, some = render(model, scene), render(model, scene, moving_only=True)
    moving = tiny_batch(scene, 1, RAYS).moving
    for offset in (-1, 1):
        assert (some.neighbours[offset].rays, found.neighbours[offset].rays) == (slice(RAYS // 2, None), slice(0, None))
        torch.testing.assert_close(
            some.neighbours[offset].rendering.rgb, found.neighbours[offset].rendering.rgb[moving]
        )
        torch.testing.assert_close(some.full.rgb, found.full.rgb)


@pytest.mark.parametrize("moving_only", [True, False])
@pytest.mark.parametrize("moving", [True, False])
def test_frames_where_nothing_or_everything_moves(model, scene, moving, moving_only):
    """Mistake 11 of the published code."""
    batch = tiny_batch(scene, 1)
    batch = replace(batch, still=0 if moving else RAYS)
    losses = LossSet(PAPER_DYNAMIC_LOSSES, moving_only)
    found = render(model, scene, batch=batch, branches=losses.branches, moving_only=moving_only)
    assert len(found.neighbours) == (0 if moving_only and not moving else 2)
    total, _ = losses(found, batch, scene, model)
    total.backward()
    assert torch.isfinite(total)
    model.zero_grad()


def test_samples_are_sorted_and_some_lie_around_the_surface(model, scene):
    batch = tiny_batch(scene, 1, RAYS)
    found = render(model, scene, batch=batch, samples=12, surface_samples=4, surface_spread=0.0)
    assert found.u.shape == (RAYS, 12) and (found.u.diff(dim=1) >= 0).all()
    assert ((found.u == batch.surface_u[:, None]).sum(1) == 4).all()
    even = render(model, scene, batch=batch, samples=12).u
    assert (even.mul(12).floor() == torch.arange(12)).all()


def test_the_generator_alone_decides(model, scene):
    first, again, other = (render(model, scene, seed=seed, density_noise=1.0) for seed in (0, 0, 1))
    torch.testing.assert_close(first.full.rgb, again.full.rgb, atol=0, rtol=0)
    assert not torch.allclose(first.u, other.u)


def test_density_noise_is_on_trained_fields_only(monkeypatch, model, scene):
    u = stratified(RAYS, 6, None, "cpu")
    monkeypatch.setattr(Renderer, "sample", lambda self, batch, generator: u)
    plain = render(model, scene)
    noisy, frozen = (render(model, scene, density_noise=2.0, frozen=frozen) for frozen in (False, True))
    torch.testing.assert_close(frozen.static.density, plain.static.density)
    for found in (
        noisy.static.density - plain.static.density,
        noisy.dynamic.density - plain.dynamic.density,
        frozen.dynamic.density - plain.dynamic.density,
        noisy.neighbours[1].samples.density - plain.neighbours[1].samples.density,
    ):
        assert 1.3 < found.std() < 2.7
    torch.testing.assert_close(noisy.dynamic.rgb, plain.dynamic.rgb)


def test_a_frozen_static_field_keeps_no_gradients(model, scene):
    found = render(model, scene, frozen=True)
    assert (
        not found.static.rgb.requires_grad and not found.static_view.rgb.requires_grad and found.full.rgb.requires_grad
    )
    assert render(model, scene, frozen=False).static.rgb.requires_grad


@pytest.mark.parametrize("encoding", ["frequency", "planes"])
def test_a_scene_of_one_frame(encoding):
    model = tiny_model(frames=(1,), encoding=encoding, flow_encoding=encoding)
    scene = tiny_context(model, frames=1)
    losses = LossSet(PAPER_DYNAMIC_LOSSES, moving_only=False)
    batch = tiny_batch(scene, 0)
    found = render(model, scene, batch=batch, branches=losses.branches)
    total, _ = losses(found, batch, scene, model)
    assert found.neighbours == {} and torch.isfinite(total) and torch.isfinite(found.full.rgb).all()


def test_without_the_density_prior_only_logits_change(model, scene):
    plain, uniform = render(model, scene), render(model, scene, density_prior=False)
    torch.testing.assert_close(uniform.dynamic_view.logits, plain.dynamic.logits.mean(1))
    for view in ("full", "static_view", "dynamic_view"):
        torch.testing.assert_close(getattr(uniform, view).rgb, getattr(plain, view).rgb)
        assert not torch.allclose(getattr(uniform, view).logits, getattr(plain, view).logits)
    torch.testing.assert_close(uniform.neighbours[1].rendering.logits, plain.neighbours[1].samples.logits.mean(1))
