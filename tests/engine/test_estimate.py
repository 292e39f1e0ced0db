"""The estimate of a long run: what it says, and that the training is the same with and without it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from semflow.config.parser import config_from_file
from semflow.config.schema import Config
from semflow.data.synthetic import make_scene
from semflow.engine import estimate as estimate_module
from semflow.engine import trainer as trainer_module
from semflow.engine.estimate import estimate, in_words
from semflow.engine.trainer import Trainer
from semflow.utils.errors import SemflowError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    make_scene(root, "one", seed=0, frames=4, height=24, width=32)
    return root


@pytest.fixture
def config(data, tmp_path) -> Config:
    base = config_from_file(ROOT / "configs" / "debug.txt")
    small = {"steps": 3, "rays": 16, "samples": 8, "surface_samples": 2}
    return replace(
        base, out=str(tmp_path / "run"), device="cpu", data=replace(base.data, dir=str(data), scenes=("one",)),
        static_stage=replace(base.static_stage, **small), dynamic_stage=replace(base.dynamic_stage, **small),
        flow_stage=replace(base.flow_stage, steps=0),
        train=replace(base.train, images_every=0, threads=1))


def weights_after(config: Config) -> dict[str, torch.Tensor]:
    trainer = Trainer(config)
    trainer.run()
    return trainer.model.state_dict()


def test_a_long_run_says_what_it_will_take_and_trains_the_same(config, tmp_path, monkeypatch, capsys):
    plain = weights_after(config)
    assert "estimated" not in capsys.readouterr().out
    monkeypatch.setattr(trainer_module, "LONG_RUN", 6)
    estimated = weights_after(replace(config, out=str(tmp_path / "other")))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("estimated"))
    assert re.fullmatch(r"estimated: about 1 min on this machine \(\S+ s a static step, \S+ s a dynamic step; measured on "
                        r"3 steps each\), \d+\.\d GB of memory", line)
    assert all(torch.equal(plain[name], estimated[name]) for name in plain)


def test_the_steps_that_are_left_are_counted(config, monkeypatch):
    trainer = Trainer(config)
    monkeypatch.setattr(estimate_module, "step_seconds", lambda trainer, stage: {"static": 3600.0, "dynamic": 7200.0}[stage.name])
    assert estimate(trainer).startswith("estimated: about 9 h on this machine (3.6e+03 s a static step, 7.2e+03 s a dynamic")
    trainer.step = 4
    assert estimate(trainer).startswith("estimated: about 4 h on this machine (7.2e+03 s a dynamic step;")


def test_too_little_memory_for_a_step_names_the_remedies(config, monkeypatch):
    trainer = Trainer(config)

    def hungry(self, *args):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate 9")

    monkeypatch.setattr(Trainer, "train_step", hungry)
    for attempt, place in ((trainer.run, "step 0"), (lambda: estimate(trainer), "static stage")):
        with pytest.raises(SemflowError, match=f"{place}: there is not enough memory.*train.recompute.*rays.*encoder.pca"):
            attempt()


def test_times_in_words():
    assert [in_words(s) for s in (3, 600, 7000, 83_000)] == ["1 min", "10 min", "117 min", "23 h"]
