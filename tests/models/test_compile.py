"""Compiled networks give the losses and gradients of the plain ones, for any frame without being compiled anew."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from semflow.config.schema import PAPER_DYNAMIC_LOSSES
from semflow.losses import LossSet
from semflow.rendering.renderer import Renderer
from tiny_scene import TINY_SAMPLING, tiny_batch, tiny_context, tiny_model
from toys import rendered


def step(model, frame: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The published losses of a frame, and their gradients."""
    scene, losses = tiny_context(model), LossSet(PAPER_DYNAMIC_LOSSES, moving_only=True)
    sampling = TINY_SAMPLING.__class__(**(vars(TINY_SAMPLING) | {"moving_only": True}))
    batch = tiny_batch(scene, frame)
    outputs = rendered(Renderer(model, losses.branches, sampling, False), scene, batch, torch.Generator().manual_seed(0))
    total, _ = losses(outputs, batch, scene, model)
    model.zero_grad(set_to_none=True)
    total.backward()
    return total.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same_steps(plain, compiled, frame: int) -> None:
    (total, gradients), (other_total, others) = step(plain, frame), step(compiled, frame)
    assert other_total == pytest.approx(total, rel=1e-5)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5 * scale + 1e-8, msg=name)


@pytest.fixture(params=["frequency", "planes"])
def models(request):
    """The same networks plain, and to be compiled."""
    torch._dynamo.reset()
    plain, compiled = (tiny_model(encoding=request.param, flow_encoding=request.param) for _ in range(2))
    compiled.compile_networks()
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    return plain, compiled


@pytest.mark.slow
def test_the_networks_are_traced_once_for_all_frames_and_give_the_same(capsys, models):
    """Traced as for compilation, and run by torch's own kernels: no compiler is needed."""
    for part, name in ((models[1].static, "samples_of"), (models[1].dynamic, "samples_of"), (models[1].flow, "velocity_of"),
                       (models[1].aggregator.attention, "forward")):
        method = getattr(part, name)
        method.compiled = torch.compile(method.method, dynamic=True, backend="aot_eager")
    graphs = []
    for frame in (1, 2, 0, 3):
        assert_same_steps(*models, frame)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] >= 4 and graphs[1:] == graphs[:1] * 3 and "uncompiled" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_a_compiler_changes_nothing(capsys, models):
    assert_same_steps(*models, 1)
    assert "uncompiled" not in capsys.readouterr().out
