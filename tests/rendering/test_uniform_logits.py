"""Views without the density prior (`render.flow_density_prior`), against the compositing of the training renderer."""

import pytest
import torch
from toys import make_scene, tiny_model, turning_cameras

from semflow.config.schema import RenderConfig
from semflow.geometry.spaces import camera_rays
from semflow.records import FieldSamples, View
from semflow.rendering.compositing import composite, composite_blended, sample_distances
from semflow.rendering.model_renderer import ModelRenderer
from semflow.rendering.samples import stratified

SAMPLES, FRAME, SOURCE = 12, 1, 2  # of three frames, 2 is half a clip away from 1
CAMERAS = turning_cameras(3, 6, 8)
WANTED = frozenset({"rgb", "semantic"})


@pytest.fixture(scope="module")
def case():
    """Networks with densities, blendings and classes that vary from place to place, and their scene."""
    rgb = torch.rand(3, 6, 8, 3, generator=torch.Generator().manual_seed(2))
    model, (context,) = tiny_model([make_scene(CAMERAS, rgb=rgb)], density_scale=8.0)
    torch.manual_seed(1)
    for head in (model.static.density, model.dynamic.density, model.static.semantic[-1], model.dynamic.semantic[-1]):
        torch.nn.init.normal_(head.weight, std=1.0)
    torch.nn.init.normal_(model.dynamic.blend.weight, std=2.0)
    return model, context


def shot(case, static_only: bool = False, **config) -> View:
    model, context = case
    config = RenderConfig(**({"samples": SAMPLES, "occupancy": 0} | config))
    target = ModelRenderer(model, {"toy": context}, config, static_only)
    return target.render("toy", CAMERAS, 1, float(FRAME), WANTED)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def samples_of(case) -> tuple[FieldSamples, FieldSamples, torch.Tensor, torch.Tensor]:
    """What the training renderer asks about the same samples: both fields, u and distances."""
    model, context = case
    rays = camera_rays(CAMERAS, context.space, 1, CAMERAS.pixels().flatten(0, 1))
    u = stratified(len(rays), SAMPLES, None, rays.uv.device)
    points, view_dirs = rays.at(u).flatten(0, 1), rays.view_dirs.repeat_interleave(SAMPLES, dim=0)
    maps = model.ready_maps(context, [0, 1, 2], [SOURCE])
    track = model.track(context, maps, points, FRAME)
    static = model.static_samples(context, maps, points, view_dirs, SOURCE)
    dynamic, = model.dynamic_samples(context, maps, [track], [len(rays)])
    return static.on_rays(*u.shape), dynamic.on_rays(*u.shape), u, sample_distances(u, rays.directions)


@pytest.mark.parametrize(("prior", "occupancy"), [(False, 0), (False, 8), (True, 0)])
def test_a_view_has_the_logits_of_the_training_renderer(case, prior, occupancy):
    expected, share = composite_blended(*samples_of(case), density_prior=prior)
    view = shot(case, flow_density_prior=prior, occupancy=occupancy)
    assert_near(view.logits.flatten(0, 1), expected.logits)
    assert_near(view.rgb.flatten(0, 1), expected.rgb)
    assert_near(view.dynamic_opacity.flatten(), share)


@pytest.mark.parametrize("prior", [False, True])
def test_the_static_field_alone_has_the_logits_of_the_training_renderer(case, prior):
    static, _, u, distances = samples_of(case)
    view = shot(case, static_only=True, flow_density_prior=prior)
    expected = composite(static, u, distances, density_prior=prior)
    assert_near(view.logits.flatten(0, 1), expected.logits)
    assert_near(view.rgb.flatten(0, 1), expected.rgb)


def test_the_two_ways_to_composite_logits_differ_here(case):
    one, two = (shot(case, flow_density_prior=prior).logits for prior in (False, True))
    assert (one - two).abs().mean() > 0.05
