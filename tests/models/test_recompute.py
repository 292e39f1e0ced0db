"""Recomputing activations changes memory and time, not results."""

from dataclasses import replace

import pytest
import torch
from tiny_scene import tiny_context, tiny_model
from toys import rendered

from semflow.config.parser import config_from_file
from semflow.data.sampler import RaySampler
from semflow.engine.benchmark import BenchmarkSettings, build_bench
from semflow.losses import LossSet
from semflow.rendering.renderer import Renderer, Sampling


@pytest.mark.parametrize("form", ["published", "fast"])
def test_gradients_are_the_same(form):
    config = config_from_file("configs/balloon.txt")
    if form == "published":
        config = replace(config_from_file("configs/paper/full.txt"), encoder=config.encoder)
    config = replace(config, dynamic_stage=replace(config.dynamic_stage, rays=8, samples=6, surface_samples=0, density_noise=0.0))
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        settings = BenchmarkSettings(replace(config, train=replace(config.train, recompute=recompute)), 16, 24, 5, 4, device="cpu")
        bench = build_bench(settings, torch.device("cpu"))
        stage = config.dynamic_stage
        losses = LossSet(stage.losses, stage.moving_only)
        renderer = Renderer(bench.model, losses.branches, Sampling(6, 0, 0.03, 0.0, stage.moving_only, True), static_frozen=True)
        sampler = RaySampler(bench.scenes[0].data, bench.scenes[0].supervision, 8, static_only=False)
        generator = torch.Generator().manual_seed(0)
        batch = sampler.of_frame(2, 0, generator)
        outputs = rendered(renderer, bench.contexts[0], batch, generator)
        losses(outputs, batch, bench.contexts[0], bench.model)[0].backward()
        gradients.append({n: p.grad for n, p in bench.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_computed_again_is_one_track_after_the_other(monkeypatch, recompute):
    """All tracks at once would all be there again at once."""
    model = tiny_model(frames=(4,)).set_up(bf16=False, recompute=recompute)
    scene = tiny_context(model)
    maps = model.ready_maps(scene, [0, 1, 2, 3], [])
    asked, query = [], model.query_dynamic
    monkeypatch.setattr(model, "query_dynamic", lambda scene, maps, part: asked.append(len(part)) or query(scene, maps, part))
    points = torch.rand(6, 3) - 0.5
    tracks = model.tracks(scene, maps, [(points, 1), (points, 2)])
    model.dynamic_samples(scene, maps, tracks, [3, 3])
    assert asked == ([1, 1] if recompute else [2])
