"""The stage of the flow network: it alone is trained, on the known surfaces, and a stopped run goes on in it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from semflow.config.parser import config_from_file
from semflow.config.schema import Config, StageConfig
from semflow.data.synthetic import make_scene
from semflow.engine.checkpoint import checkpoint_path, load_checkpoint
from semflow.engine.run_folder import RunFolder
from semflow.engine.stages import stages_of, total_steps
from semflow.engine.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
STEPS = 60


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    """The flow stage of the demo, shorter, on a tiny scene."""
    folder = tmp_path_factory.mktemp("flow")
    make_scene(folder / "scenes", "one", seed=0, frames=4, height=24, width=32)
    base = config_from_file(ROOT / "configs" / "balloon.txt")
    none = replace(base.static_stage, steps=0)
    return replace(
        base, out=str(folder / "run"), device="cpu", data=replace(base.data, dir=str(folder / "scenes"), scenes=("one",)),
        model=replace(base.model, plane_levels=(8,), flow_plane_levels=(8, 16), plane_channels=4, static_width=8, dynamic_width=8),
        static_stage=none, dynamic_stage=replace(base.dynamic_stage, steps=0),
        flow_stage=replace(base.flow_stage, steps=STEPS, decay_steps=STEPS, rays=128, warmup_steps=5),
        train=replace(base.train, threads=1, images_every=10, save_every=STEPS // 2))


@pytest.fixture(scope="module")
def trained(config) -> tuple[list, Trainer]:
    """The reports of all steps, and the trainer."""
    trainer, reports = Trainer(config), []
    original = trainer.train_step
    trainer.train_step = lambda *args: reports.append(original(*args)) or reports[-1]
    trainer.panel = lambda *_: pytest.fail("a picture of colours that nobody has trained")
    assert trainer.run()
    return reports, trainer


def test_the_flow_comes_to_explain_the_optical_flow(trained):
    """The terms are errors in pixels, of both directions together."""
    errors = [float(report.terms["flow_forward"] + report.terms["flow_backward"]) for report in trained[0]]
    assert sum(errors[:8]) / 8 > 0.4 and sum(errors[-8:]) / 8 < 0.15


def test_no_other_network_changes(config, trained):
    fresh = Trainer(replace(config, out=config.out + "_fresh")).model.state_dict()
    changed = {name.split(".")[0] for name, value in trained[1].model.state_dict().items() if not torch.equal(value, fresh[name])}
    assert changed == {"flow"}


def test_colours_that_nobody_trains_are_not_reported(trained):
    assert all(report.psnr.isnan() and report.miou.isnan() and report.loss.isfinite() for report in trained[0])


def test_a_run_goes_on_inside_the_stage(config, trained):
    halfway = checkpoint_path(RunFolder(config.out).checkpoints, STEPS // 2)
    again = Trainer(replace(config, out=config.out + "_again"), resume=halfway)
    assert again.run()
    ends = [load_checkpoint(RunFolder(out).require_checkpoint())["model"] for out in (config.out, config.out + "_again")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_stages_follow_each_other():
    config = Config(static_stage=StageConfig(steps=3), flow_stage=StageConfig(steps=5), dynamic_stage=StageConfig(steps=7))
    found = [(stage.name, stage.first_step, stage.last_step) for stage in stages_of(config)]
    assert found == [("static", 0, 3), ("flow", 3, 8), ("dynamic", 8, 15)] and total_steps(config) == 15
    without = stages_of(replace(config, flow_stage=StageConfig(steps=0)))
    assert [(stage.name, stage.first_step) for stage in without] == [("static", 0), ("dynamic", 3)]
