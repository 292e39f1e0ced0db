"""Two processes train as one does: the same losses, gradients and weights; rank 0 alone writes; all stop together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_fakes import SeenFramesRenderer, make_scene
from several_ranks import run_ranks

from semflow.cli.main import main
from semflow.config.parser import config_from_file, config_to_text
from semflow.config.schema import PAPER_DYNAMIC_LOSSES, Config
from semflow.data import synthetic
from semflow.engine import stage_work
from semflow.engine.checkpoint import load_checkpoint
from semflow.engine.evaluator import evaluate
from semflow.engine.protocols import PROTOCOLS
from semflow.engine.run_folder import RunFolder
from semflow.engine.trainer import Trainer
from semflow.utils.errors import SemflowError
from semflow.utils.ranks import rank

ROOT = Path(__file__).resolve().parents[2]
STEPS = 2  # of a stage
STOP = 3  # the step at which a signal comes


def fast(folder: Path) -> Config:
    """Two scenes, two micro-batches, planes, terms on moving rays only; an odd number of rays."""
    base = config_from_file(ROOT / "configs" / "debug.txt")
    small = {"steps": STEPS, "rays": 26, "samples": 8, "surface_samples": 2, "density_noise": 0.5, "warmup_steps": 0}
    return replace(
        base, out=str(folder / "fast"), device="cpu",
        data=replace(base.data, dir=str(folder / "scenes"), scenes=("one", "two")),
        model=replace(base.model, plane_levels=(8, 16), plane_channels=4, static_width=16, dynamic_width=16, flow_width=16),
        static_stage=replace(base.static_stage, **small),
        flow_stage=replace(base.flow_stage, **small),
        dynamic_stage=replace(base.dynamic_stage, **small),
        train=replace(base.train, accumulate=2, save_every=1, images_every=0, log_every=1, threads=1, keep=9))


def published(folder: Path) -> Config:
    """The published losses, an encoder trained with the field; depth of known order only, two frames labelled."""
    base = fast(folder)
    stage = replace(
        base.dynamic_stage, steps=3 * STEPS, rays=7, surface_samples=0, moving_only=False, losses=PAPER_DYNAMIC_LOSSES)
    return replace(
        base, out=str(folder / "published"), dynamic_stage=stage, static_stage=replace(base.static_stage, steps=0),
        flow_stage=replace(base.flow_stage, steps=0), data=replace(base.data, scenes=("one",), calibrate_depth=False, labelled_frames="0,2"),
        encoder=replace(base.encoder, kind="joint"), model=replace(base.model, encoding="frequency", octaves=3))


def few(folder: Path) -> Config:
    """Three rays, of which one moves: a rank has none."""
    base = published(folder)
    stage = replace(base.dynamic_stage, rays=3, moving_only=True)
    return replace(base, out=str(folder / "few"), dynamic_stage=stage)


RUNS = {"fast": fast, "published": published, "few": few}


def trainer_of(config: Config, resume: Path | None = None) -> Trainer:
    """A trainer whose first scene has a frame without motion; where it may write nothing it has a folder of its own."""
    out = Path(config.out).with_name("other_rank") if rank() else config.out
    trainer = Trainer(replace(config, out=str(out)), resume)
    trainer.scenes[0].data.motion[1] = False
    return trainer


def run(config: Config) -> dict:
    """Train; the reports and random states of all steps, the gradients of the first, the weights at the end."""
    trainer = trainer_of(config)
    original, found = trainer.train_step, {"reports": [], "random": []}

    def step(*args):
        report = original(*args)
        found["reports"].append({"loss": report.loss, "psnr": report.psnr, "miou": report.miou, **report.terms})
        found["random"] += trainer.random_states().values()
        found.setdefault("gradients", {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
        return report

    trainer.train_step = step
    assert trainer.run()
    return found | {"weights": trainer.model.state_dict()}


def stopped(config: Config) -> int:
    """Train until rank 1 gets a SIGTERM; the steps that this rank has done."""
    trainer = trainer_of(config)
    original = trainer.train_step

    def step(*args):
        report = original(*args)
        if rank() == 1 and trainer.step == STOP:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    trainer.train_step = step
    assert not trainer.run()
    return trainer.step


def failed(config: Config) -> str:
    """Train with a loss that is not finite on rank 1; the error of this rank."""
    original = stage_work.build_losses

    def build(stage):
        losses = original(stage)

        def call(*args):
            total, terms = losses(*args)
            return total, terms | {"rgb_static": terms["rgb_static"] / (1 - rank())}

        call.branches, call.terms = losses.branches, losses.terms
        return call

    stage_work.build_losses = build
    try:
        with pytest.raises(SemflowError) as caught:
            trainer_of(config).run()
    finally:
        stage_work.build_losses = original
    return str(caught.value)


def judge(folder: Path) -> None:
    """Evaluate a renderer that is wrong in two images."""
    evaluate(SeenFramesRenderer({(1, 2), (3, 0)}), [make_scene()], folder, PROTOCOLS["corrected"], save=True, progress=False)


def in_ranks(folder: Path) -> dict:
    """Everything that two processes are asked to do."""
    config = fast(folder)
    judge(folder / "eval")
    return {name: run(make(folder)) for name, make in RUNS.items()} | {
        "stopped": stopped(replace(config, out=str(folder / "stopped"))),
        "failed": failed(replace(config, out=str(folder / "failed")))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    for seed, name in enumerate(("one", "two")):
        synthetic.make_scene(folder / "scenes", name, seed=seed, frames=4 + seed, height=24, width=32)
    return folder


def torchrun(*arguments: object) -> subprocess.CompletedProcess:
    """Two processes of the front door, as users start them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def two(folder) -> list[dict]:
    return run_ranks(in_ranks, folder)


def close(theirs: torch.Tensor, ours: torch.Tensor, name: str, rtol: float = 1e-3, atol: float = 2e-4) -> None:
    torch.testing.assert_close(theirs, ours, rtol=rtol, atol=atol, equal_nan=True, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one_does(folder, two, name):
    config = RUNS[name](folder)
    alone = run(replace(config, out=config.out + "_alone"))
    for other in (found[name] for found in two):
        for ours, theirs in zip(alone["reports"], other["reports"], strict=True):
            assert ours.keys() == theirs.keys()
            for key in ours:
                close(theirs[key], ours[key], key, rtol=2e-4, atol=2e-5)
        assert all(map(torch.equal, alone["random"], other["random"]))
        assert alone["gradients"].keys() == other["gradients"].keys()
        largest = max(float(gradient.abs().max()) for gradient in alone["gradients"].values())
        for key, gradient in alone["gradients"].items():
            close(other["gradients"][key], gradient, key, rtol=1e-3, atol=1e-5 * largest)
        for key, weight in alone["weights"].items():
            close(other["weights"][key], weight, key)
    for key, weight in two[0][name]["weights"].items():
        assert torch.equal(weight, two[1][name]["weights"][key]), key


def test_rank_0_alone_writes(folder, two):
    assert not (folder / "other_rank").exists()
    state = load_checkpoint(RunFolder(folder / "fast").require_checkpoint())
    assert (folder / "fast" / "finished.json").is_file() and list((folder / "fast" / "tensorboard").iterdir())
    assert state["step"] == 3 * STEPS and not any(name.startswith("module.") for name in state["model"])


def test_a_signal_to_one_stops_both_and_one_process_goes_on(folder, two):
    assert [found["stopped"] for found in two] == [STOP, STOP]
    config = replace(fast(folder), out=str(folder / "stopped"))
    checkpoint = RunFolder(config.out).require_checkpoint()
    assert load_checkpoint(checkpoint)["step"] == STOP
    trainer = trainer_of(config, checkpoint)
    assert trainer.run()
    whole = load_checkpoint(RunFolder(folder / "fast").require_checkpoint())
    assert all(torch.equal(value, whole[name]) for name, value in trainer.random_states().items())
    for key, weight in trainer.model.state_dict().items():
        close(weight, whole["model"][key], key)


def test_a_loss_that_is_not_finite_on_one_stops_both(folder, two):
    assert all("step 0: loss rgb_static is not finite" in found["failed"] for found in two)
    assert [path.name for path in (folder / "failed").glob("failure_*")] == ["failure_0000000.safetensors"]


def test_two_processes_evaluate_as_one_does(folder, two):
    judge(folder / "eval_of_one")
    ours, theirs = (folder / name / "corrected" for name in ("eval_of_one", "eval"))
    assert json.loads((theirs / "metrics.json").read_text()) == json.loads((ours / "metrics.json").read_text())
    files = sorted(path.relative_to(ours) for path in ours.rglob("*.*"))
    assert files == sorted(path.relative_to(theirs) for path in theirs.rglob("*.*")) and len(files) > 30
    assert all((ours / name).read_bytes() == (theirs / name).read_bytes() for name in files)


@pytest.mark.slow
def test_torchrun_trains_evaluates_and_renders(folder):
    config = replace(fast(folder), out=str(folder / "run"), data=replace(fast(folder).data, scenes=("one",)))
    file = folder / "config.txt"
    file.write_text(config_to_text(config))
    trained = torchrun("train.py", "--config", file)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count("finished: ") == 1 and "processes: 2" in trained.stdout
    evaluated = torchrun("scripts/evaluate.py", "--run", config.out, "--device", "cpu")
    assert evaluated.returncode == 0 and evaluated.stdout.count("written: ") == 1, evaluated.stderr
    metrics = Path(config.out) / "eval" / "corrected" / "metrics.json"
    found = metrics.read_text()
    assert main(["evaluate", "--run", config.out, "--device", "cpu"]) == 0 and metrics.read_text() == found
    rendered = torchrun("scripts/render.py", "--run", config.out, "--what", "rgb", "--frames", 5, "--device", "cpu")
    assert rendered.returncode == 0 and rendered.stdout.count("rgb.mp4") == 1, rendered.stderr
    assert len(list((Path(config.out) / "renders" / "one_novel" / "rgb").iterdir())) == 5
    wrong = torchrun("train.py", "--config", file, "--out", config.out, "--train.seed", 5)
    assert wrong.returncode != 0 and wrong.stderr.count("semflow: error: ") == 1 and "train.seed" in wrong.stderr
