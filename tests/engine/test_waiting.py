"""What a training step makes the host wait for: on a CPU the values of the terms, once; on a GPU nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from semflow.config.parser import config_from_file
from semflow.config.schema import PAPER_DYNAMIC_LOSSES, Config
from semflow.data.sampler import RaySampler
from semflow.data.synthetic import make_scene
from semflow.engine import trainer as trainer_module
from semflow.engine.finite import FiniteGuard
from semflow.engine.stage_work import StageWork
from semflow.engine.trainer import Trainer
from semflow.utils.device import OnTheWay

ROOT = Path(__file__).resolve().parents[2]
WAITING = {  # operations whose result the host has to know; a number or a list that goes to the device is one too
    "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "bincount", "unique_dim", "_unique2",
    "lift_fresh"}


class Waits(TorchDispatchMode):
    """Counts operations on whose results, or for whose arguments, a GPU would be waited for."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITING or (name in ("index", "index_put", "index_put_", "_index_put_impl_") and by_mask(args[1])):
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def by_mask(indices) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    make_scene(root, "one", seed=0, frames=4, height=24, width=32)
    return root


def fast(data: Path, out: Path) -> Config:
    """The demo's losses on planes; terms on moving rays only, sampled around the surface."""
    base = config_from_file(ROOT / "configs" / "debug.txt")
    stages = {name: replace(getattr(base, name), rays=24, samples=8, surface_samples=2) for name in STAGES}
    return replace(base, out=str(out), data=replace(base.data, dir=str(data), scenes=("one",)), device="cpu", **stages)


def published(data: Path, out: Path) -> Config:
    """The published losses and frequencies, depth of known order only, an encoder trained with the field."""
    base = fast(data, out)
    dynamic = replace(base.dynamic_stage, moving_only=False, density_noise=1.0, losses=PAPER_DYNAMIC_LOSSES)
    return replace(base, data=replace(base.data, calibrate_depth=False), encoder=replace(base.encoder, kind="joint"),
                   model=replace(base.model, encoding="frequency"), dynamic_stage=dynamic)


STAGES = ("static_stage", "flow_stage", "dynamic_stage")


def step_of(config: Config, number: int):
    """A trainer, one step of a stage, and its optimiser."""
    trainer = Trainer(config)
    stage = trainer_module.stages_of(config)[number]
    optimizer = trainer_module.build_optimizer(stage, trainer.model)
    work = StageWork(stage, config, trainer.model, trainer.scenes, trainer.contexts)
    guard = FiniteGuard(optimizer, work.names, trainer.refuse)

    def step() -> None:
        with work.on_its_stream():
            trainer.train_step(stage, optimizer, work, guard)

    return trainer, optimizer, step


@pytest.mark.parametrize("make", [fast, published])
@pytest.mark.parametrize("number", range(len(STAGES)))
def test_a_step_waits_for_nothing_but_the_values_of_its_terms(monkeypatch, data, tmp_path, make, number):
    """Two reads are the host's own: it draws the frame and its source. Adam's counters of steps lie on the host, too."""
    trainer, optimizer, step = step_of(make(data, tmp_path), number)
    monkeypatch.setattr(optimizer, "step", lambda: None)
    reads, read = [], OnTheWay.read
    monkeypatch.setattr(OnTheWay, "read", lambda self: reads.append(trainer.step) or read(self))
    step()
    with Waits() as waits:
        step()
    assert waits.found == {"_local_scalar_dense": 2} and reads == [0, 1]


def test_the_count_finds_what_it_looks_for():
    values, mask = torch.ones(3), torch.tensor([True, False, True])
    with Waits() as waits:
        _ = values[mask], values[[0, 1]], float(values.sum()), torch.tensor(1.0)
        values[mask] = 0.0
        assert bool(mask.any())
    assert waits.found == {"index": 1, "index_put_": 1, "_local_scalar_dense": 2, "lift_fresh": 3}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("make", [fast, published])
@pytest.mark.parametrize("number", range(len(STAGES)))
def test_cuda_itself_finds_nothing_that_waits(monkeypatch, data, tmp_path, make, number):
    """Neither in a first step nor in one that is repeated."""
    monkeypatch.setattr(RaySampler, "frames", lambda self, host: (1, 2))  # one kind of step
    _, _, step = step_of(replace(make(data, tmp_path), device="cuda"), number)
    step()
    for steps in (1, 3):  # the third is recorded
        for _ in range(steps - 1):
            step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
