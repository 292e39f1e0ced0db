"""Compiled networks give the losses and gradients of the plain ones, for any frame without being compiled anew."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from semflow.config.schema import PAPER_DYNAMIC_LOSSES
from semflow.losses import LossSet
from semflow.rendering.renderer import Renderer
from tiny_scene import TINY_SAMPLING, tiny_batch, tiny_context, tiny_model


def step(model, frame: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The published losses of a frame, and their gradients."""
    scene, losses = tiny_context(model), LossSet(PAPER_DYNAMIC_LOSSES, moving_only=True)
    sampling = TINY_SAMPLING.__class__(**(vars(TINY_SAMPLING) | {"moving_only": True}))
    batch = tiny_batch(scene, frame)
    outputs = Renderer(model, losses.branches, sampling, False).render(scene, batch, torch.Generator().manual_seed(0))
    total, _ = losses(outputs, batch, scene, model)
    model.zero_grad(set_to_none=True)
    total.backward()
    return total.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("encoding", ["frequency", "planes"])
def test_losses_and_gradients_are_those_of_the_plain_networks(capsys, encoding):
    torch._dynamo.reset()
    plain, compiled = (tiny_model(encoding=encoding, flow_encoding=encoding) for _ in range(2))
    compiled.compile_networks()
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    graphs = []
    for frame in (1, 2, 0, 3):
        (total, gradients), (other_total, others) = step(plain, frame), step(compiled, frame)
        assert other_total == pytest.approx(total, rel=1e-5)
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-8, msg=name)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] >= 4 and graphs[1:] == graphs[:1] * 3 and "uncompiled" not in capsys.readouterr().out
