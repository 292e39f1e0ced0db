"""The published step, fast, against the plain one: the same losses to rounding, and the same gradients."""

from dataclasses import replace

import pytest
import torch
from toys import rendered

from oracle import Oracle
from semflow.config.schema import Config, EncoderConfig, ModelConfig, StageConfig, TrainConfig
from semflow.data.sampler import RaySampler
from semflow.encoders.positional import FrequencyEncoding
from semflow.engine.benchmark import BenchmarkSettings, build_bench
from semflow.losses import LossSet
from semflow.rendering.renderer import Renderer, Sampling
from semflow.rendering.samples import stratified

RAYS, SAMPLES, FRAMES = 12, 7, 5
MODEL = ModelConfig(octaves=4, flow_octaves=3, code_hidden=16, code_width=8, static_width=16, dynamic_width=12, flow_width=10,
                    attention_width=6, attention_heads=2, attention_head_width=3)


def bench(recompute: bool):
    """A random scene of 48x32 and networks of the published form, small, with deep features (random maps)."""
    config = Config(model=MODEL, encoder=EncoderConfig(), train=TrainConfig(recompute=recompute))
    torch.manual_seed(0)
    made = build_bench(BenchmarkSettings(config, 32, 48, FRAMES, 4, device="cpu"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # fields start as uniform fog at rest, in which many a mistake would not show
        for parameter in made.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made, config


@pytest.mark.parametrize("frame, recompute, part", [(0, False, 20), (2, True, 20), (2, False, 4096), (FRAMES - 1, True, 4096)])
def test_losses_and_gradients_are_those_of_the_plain_step(monkeypatch, frame, recompute, part):
    monkeypatch.setattr(FrequencyEncoding, "part_points", part)
    made, config = bench(recompute)
    stage = replace(StageConfig(losses=config.dynamic_stage.losses), density_noise=0.0)
    losses = LossSet(stage.losses, moving_only=False)
    renderer = Renderer(made.model, losses.branches, Sampling(SAMPLES, 0, 0.03, 0.0, False, True), static_frozen=True)
    sampler = RaySampler(made.scenes[0].data, made.scenes[0].supervision, RAYS, static_only=False)
    generator = torch.Generator().manual_seed(3)
    batch = sampler.of_frame(frame, (frame + 2) % FRAMES, generator)
    state = generator.get_state()
    fast = rendered(renderer, made.contexts[0], batch, generator)
    generator.set_state(state)
    u = stratified(RAYS, SAMPLES, generator, "cpu")
    plain = Oracle(made.model, made.contexts[0]).render(batch, u)
    torch.testing.assert_close(fast.u, u, atol=0, rtol=0)
    found = [losses(outputs, batch, made.contexts[0], made.model) for outputs in (fast, plain)]
    assert len(found[0][1]) == 21 and sum(bool(value != 0) for value in found[1][1].values()) >= 16
    for name, value in found[1][1].items():
        torch.testing.assert_close(found[0][1][name], value, rtol=2e-5, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
    parameters = {name: value for name, value in made.model.named_parameters() if value.requires_grad}
    gradients = [torch.autograd.grad(total, list(parameters.values()), allow_unused=True) for total, _ in found]
    for name, ours, theirs in zip(parameters, *gradients, strict=True):
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            scale = theirs.abs().max()
            assert (ours - theirs).abs().max() <= 1e-3 * scale + 1e-7, name
