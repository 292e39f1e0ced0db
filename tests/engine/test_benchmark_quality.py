"""Time to quality: lengths of the runs, pure training time, resuming, and a whole curve on a tiny scene."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from semflow.cli.main import main
from semflow.config.parser import config_from_file
from semflow.config.schema import Config, StageConfig
from semflow.data.synthetic import make_scene
from semflow.engine import benchmark_quality, benchmark_timing
from semflow.engine.benchmark_quality import (
    QualityPlan,
    TimedTrainer,
    fitted,
    measure_quality,
    read_evaluation,
    scaled,
    steps_of_stages,
)
from semflow.engine.checkpoint import load_checkpoint
from semflow.engine.protocols import find_protocol
from semflow.engine.run_folder import RunFolder
from semflow.engine.trainer import Trainer
from semflow.utils.errors import ConfigError
from semflow.utils.files import write_json

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"rays": 16, "samples": 6, "surface_samples": 2, "decay_steps": 100, "warmup_steps": 4}
OPTIONS = {f"{stage}.{name}": value for stage in ("static_stage", "dynamic_stage") for name, value in SIZES.items()} | {
    "model.plane_levels": "[8]", "model.plane_channels": 4, "model.static_width": 8, "model.dynamic_width": 8,
    "model.flow_width": 8, "render.samples": 6, "render.fine_samples": 0, "render.occupancy": 0, "train.images_every": 0,
    "train.save_every": 3, "static_stage.steps": 6, "dynamic_stage.steps": 4, "data.factor": 2, "train.threads": 1}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A small product, and a pilot of few steps."""
    monkeypatch.setattr(benchmark_timing, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(benchmark_quality, "PILOT_STEPS", 3)
    monkeypatch.setattr(benchmark_quality, "PILOT_WARM_UP", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    make_scene(root, "one", seed=0, frames=4, height=48, width=64)
    return root


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "tiny.txt"
    lines = [f"base = {ROOT / 'configs' / 'base.txt'}", *(f"{key} = {value}" for key, value in OPTIONS.items())]
    terms = ("static_stage.losses.rgb_static", "dynamic_stage.losses.rgb_full", "dynamic_stage.losses.semantic_full")
    losses = [f"{term} = 1" for term in terms]
    path.write_text("\n".join(lines + losses) + "\n")
    return path


@pytest.fixture
def config(file, data, tmp_path) -> Config:
    config = config_from_file(file)
    own_data = replace(config.data, dir=str(data), scenes=("one",))
    return replace(config, device="cpu", out=str(tmp_path / "run"), data=own_data)


def plan_of(config: Config, tmp_path: Path, *minutes: float, along: bool = False) -> QualityPlan:
    return QualityPlan(config, minutes, along, find_protocol("corrected"), 4, tmp_path / "quality")


class Judge:
    """Writes an evaluation without rendering: the PSNR is the step of the checkpoint."""

    def __init__(self):
        self.calls = []

    def __call__(self, checkpoint: Path, out: Path) -> None:
        self.calls.append(out)
        ours = {"psnr": float(load_checkpoint(checkpoint)["step"])}
        head = {"ours": ours, "copying": {"psnr": 1.0}}
        write_json(out / "corrected" / "metrics.json", {
            "mean": {"held-out": head, "training": {}} | {find_protocol("corrected").headline: head},
            "subset": {"every": 4, "images": 9, "of": 30},
            "scenes": {"one": {"groups": {find_protocol("corrected").headline: {"images": 7}}}}})


def slow_steps(monkeypatch, *seconds: float) -> None:
    """A clock for the timed trainer: each step takes the next of `seconds`, the last one on and on; saving takes 100."""
    left = list(seconds)
    now = [0.0]
    train_step, save = Trainer.train_step, Trainer.save

    def timed_step(self, *args):
        report = train_step(self, *args)
        now[0] += left.pop(0) if len(left) > 1 else left[0]
        return report

    def timed_save(self, *args):
        now[0] += 100.0
        return save(self, *args)

    monkeypatch.setattr(Trainer, "train_step", timed_step)
    monkeypatch.setattr(Trainer, "save", timed_save)
    monkeypatch.setattr(benchmark_quality, "time", SimpleNamespace(perf_counter=lambda: now[0]))


@pytest.mark.parametrize(("evaluated", "same"), [
    ({}, True), ({"evaluated": None}, True), ({"evaluated": {"baseline": "flow"}}, True),
    ({"evaluated": {"checkpoint": "step-2.safetensors", "settings": []}}, True),
    ({"evaluated": {"checkpoint": "step-1.safetensors", "settings": []}}, False),
    ({"evaluated": {"checkpoint": "step-2.safetensors", "settings": ["render.samples=9"]}}, False)])
def test_an_evaluation_counts_for_the_checkpoint_that_it_names(tmp_path, evaluated, same):
    """Older ones name none."""
    checkpoint, metrics = tmp_path / "step-2.safetensors", tmp_path / "metrics.json"
    checkpoint.touch()
    write_json(metrics, {"subset": {"every": 4}} | evaluated)
    assert (read_evaluation(metrics, checkpoint, 4) is not None) is same and read_evaluation(metrics, checkpoint, 3) is None


def test_stages_are_scaled_by_one_factor_to_fit_the_time():
    config = Config(static_stage=StageConfig(steps=900, decay_steps=600, warmup_steps=30),
                    dynamic_stage=StageConfig(steps=700, decay_steps=700, warmup_steps=30))
    found = fitted(config, 120.0, {"static": 0.1, "dynamic": 0.5})  # 440 s as it is
    assert (found.static_stage.steps, found.dynamic_stage.steps) == (245, 191)
    assert (found.static_stage.decay_steps, found.dynamic_stage.decay_steps) == (164, 191)
    assert found.static_stage.warmup_steps == 30 and found.static_stage.lr == config.static_stage.lr
    assert 0.1 * 245 + 0.5 * 191 == pytest.approx(120.0, abs=0.5)
    alone = fitted(replace(config, static_stage=replace(config.static_stage, steps=0)), 7.0, {"dynamic": 0.5})
    assert (alone.static_stage.steps, alone.dynamic_stage.steps) == (0, 14)


def test_warming_up_takes_no_more_than_a_quarter():
    found = scaled(StageConfig(steps=100, decay_steps=100, warmup_steps=30), 0.2)
    assert (found.steps, found.decay_steps, found.warmup_steps) == (20, 20, 5)
    assert scaled(StageConfig(steps=100), 0.001).steps == 1


def test_only_steps_count_and_their_time_survives_an_interruption(config, monkeypatch):
    slow_steps(monkeypatch, 1.0, 2.0)
    original = TimedTrainer.train_step

    def interrupted(self, *args):
        report = original(self, *args)
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    with monkeypatch.context() as patch:
        patch.setattr(TimedTrainer, "train_step", interrupted)
        trainer = TimedTrainer(config)
        assert not trainer.run()
    assert trainer.training_seconds == 7.0 and trainer.step_seconds == {"static": [1.0, 2.0, 2.0, 2.0]}
    resumed = TimedTrainer(config, RunFolder(config.out).newest_checkpoint)
    assert resumed.training_seconds == 7.0 and resumed.run()
    state = load_checkpoint(RunFolder(config.out).newest_checkpoint)
    assert (state["step"], state["training_seconds"]) == (10, 19.0)
    assert len(state["product_seconds"]) == 5 and min(state["product_seconds"]) >= 0  # steps 3, 4, 6, 9 and 10


def test_a_run_per_time_whose_length_fits(config, tmp_path, monkeypatch):
    slow_steps(monkeypatch, 0.5)
    judge, plan = Judge(), plan_of(config, tmp_path, 0.1, 0.2)
    found = measure_quality(plan, judge)
    assert found.mode == "runs" and found.step_seconds == {"static": 0.5, "dynamic": 0.5} and found.scenes == ("one",)
    assert [tuple(p.steps.values()) for p in found.points] == [(7, 0, 5), (14, 0, 10)]  # 6 and 12 seconds, 3 : 2
    assert [p.seconds for p in found.points] == [6.0, 12.0] and [p.ours["psnr"] for p in found.points] == [12.0, 24.0]
    assert [(p.minutes, p.images, p.copying["psnr"]) for p in found.points] == [(0.1, 7, 1.0), (0.2, 7, 1.0)]
    assert measure_quality(plan, judge) == found and len(judge.calls) == 2  # nothing is done again
    measure_quality(replace(plan, minutes=(0.1,), every=2), judge)
    assert len(judge.calls) == 3  # another subset is
    wide = replace(config, dynamic_stage=replace(config.dynamic_stage, rays=20))
    with pytest.raises(ConfigError, match="another configuration.*dynamic_stage.rays"):
        measure_quality(replace(plan, config=wide), judge)


def test_steps_belong_to_the_stages_in_turn(config):
    whole = replace(config, flow_stage=replace(config.flow_stage, steps=3))
    for step, taken in ((4, (4, 0, 0)), (8, (6, 2, 0)), (13, (6, 3, 4))):
        assert steps_of_stages(whole, step) == dict(zip(("static", "flow", "dynamic"), taken))


def test_checkpoints_along_one_run(config, tmp_path, monkeypatch):
    slow_steps(monkeypatch, 0.5)
    judge, said = Judge(), []
    found = measure_quality(plan_of(config, tmp_path, 0.05, 0.15, 0.2, along=True), judge, said.append)
    assert found.mode == "along"
    assert [(p.minutes, p.seconds) for p in found.points] == [(0.05, 3.0), (0.15, 9.0), (0.2, 12.0)]
    assert [tuple(p.steps.values()) for p in found.points] == [(6, 0, 0), (14, 0, 4), (14, 0, 10)]
    again = measure_quality(plan_of(config, tmp_path, 0.1, 0.15, 0.2, along=True), judge, said.append)
    assert again.points == found.points[1:] and "no checkpoint at 0.1 min" in said[-1] and len(judge.calls) == 3


def test_the_command_trains_judges_and_writes(file, data, tmp_path, monkeypatch, capsys):
    slow_steps(monkeypatch, 0.06)
    record, out = tmp_path / "quality.json", tmp_path / "quality"
    words = ["benchmark", "--config", str(file), "--cases", "quality", "--data_dir", str(data), "--scene", "one", "--device",
             "cpu", "--threads", "1", "--minutes", "0.01,0.02", "--every", "3", "--out", str(out), "--json", str(record)]
    assert main(words) == 0
    (part,) = json.loads(record.read_text())["parts"]
    points = part["quality"]["points"]
    assert part["name"] == "tiny" and [point["minutes"] for point in points] == [0.01, 0.02]
    assert [(p["steps"], round(p["seconds"], 9)) for p in points] == [
        ({"static": 6, "flow": 0, "dynamic": 4}, 0.6), ({"static": 12, "flow": 0, "dynamic": 8}, 1.2)]
    for point in points:
        assert 5 < point["ours"]["psnr"] < 60 and 0 <= point["ours"]["miou_foreground"] <= 1 and point["images"] == 4
        assert point["copying"] == points[0]["copying"]
    assert (out / "minutes-0.02" / "eval" / "corrected" / "one" / "overview.png").exists()
    assert "one: training" in capsys.readouterr().out
