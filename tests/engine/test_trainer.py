"""The training loop on a tiny scene: stages, exact resuming, failures, several scenes, adaptation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trainer_toys import STEPS, assert_same, tiny_config, trained, weights

from semflow.config.parser import config_to_text
from semflow.config.schema import Config
from semflow.data.synthetic import make_scene
from semflow.engine import loading, stage_work
from semflow.engine import trainer as trainer_module
from semflow.engine.checkpoint import all_checkpoints, load_checkpoint, save_checkpoint
from semflow.engine.finite import FiniteGuard
from semflow.engine.loading import load_run
from semflow.engine.replays import CudaGraphs
from semflow.engine.run_folder import RunFolder
from semflow.engine.trainer import Trainer, train
from semflow.utils.errors import CheckpointError, SemflowError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for seed, name in enumerate(("one", "two")):
        make_scene(root, name, seed=seed, frames=4 + seed, height=24, width=32)
    return root


@pytest.fixture
def config(data, tmp_path) -> Config:
    return tiny_config(data, tmp_path / "run")


def stop_after(monkeypatch, step: int) -> None:
    """A SIGTERM arrives during this step."""
    original = Trainer.train_step

    def interrupted(self, *args):
        report = original(self, *args)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    monkeypatch.setattr(Trainer, "train_step", interrupted)


def test_both_stages_train_their_own_group(config):
    trainer = Trainer(config)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert {"static", "dynamic", "flow", "aggregator"} <= changed
    assert trainer.step == 2 * STEPS


def test_dynamic_stage_leaves_the_static_field_alone(config):
    trainer = Trainer(replace(config, static_stage=replace(config.static_stage, steps=0)))
    before = {name: value.clone() for name, value in trainer.model.static.state_dict().items()}
    trainer.run()
    assert_same(before, trainer.model.static.state_dict())


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 1])
def test_interrupted_and_resumed_run_has_the_same_weights(config, tmp_path, monkeypatch, capsys, step):
    whole = trained(replace(config, out=str(tmp_path / "whole")))
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        assert not train(config)
    assert f"stopped by SIGTERM after step {step}" in capsys.readouterr().out
    assert load_checkpoint(RunFolder(config.out).require_checkpoint())["step"] == step
    assert train(config, resume=RunFolder(config.out).newest_checkpoint)
    assert_same(weights(whole), weights(config.out))


@pytest.mark.parametrize("change", ["of another device", "missing"])
def test_a_checkpoint_with_other_random_numbers_is_one_clear_error(config, tmp_path, change):
    path = RunFolder(trained(config)).newest_checkpoint
    state = load_checkpoint(path)
    if change == "missing":
        del state["host_generator"]
    else:
        state["generator"] = state["generator"][:16].clone()
    save_checkpoint(tmp_path / "other.safetensors", state)
    with pytest.raises(CheckpointError, match="other.safetensors: its random numbers are those of .* --init"):
        Trainer(config, tmp_path / "other.safetensors")


def test_same_seed_same_weights_other_seed_other_weights(config, tmp_path):
    runs = [replace(config, out=str(tmp_path / str(i)), train=replace(config.train, seed=seed))
            for i, seed in enumerate((0, 0, 1))]
    first, second, third = (weights(trained(run)) for run in runs)
    assert_same(first, second)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_checkpoint_alone_renders(config, data, tmp_path):
    train(config)
    checkpoint = RunFolder(config.out).require_checkpoint()
    lonely = checkpoint.rename(tmp_path / "lonely.safetensors")
    loaded = load_run(tmp_path / "nowhere", "cpu", lonely)
    cameras = loaded.cameras("one").resized(18, 24)
    view = loaded.renderer.render("one", cameras, 1, 1.5, frozenset({"rgb", "semantic", "depth", "flow", "entropy"}))
    assert view.rgb.shape == (18, 24, 3) and bool(view.rgb.isfinite().all())
    assert view.labels.shape == (18, 24) and view.flow.shape == (18, 24, 2)
    assert float(view.depth.min()) > 0


def test_loaded_run_renders_as_the_trained_model_does(config):
    trainer = Trainer(config)
    trainer.run()
    loaded = load_run(Path(config.out), "cpu")
    contexts = {"one": trainer.contexts[0]}
    fresh = trainer_module.ModelRenderer(trainer.model, contexts, config.render)
    cameras, what = loaded.cameras("one"), frozenset({"rgb", "semantic"})
    ours, theirs = (r.render("one", cameras, 0, 2.0, what) for r in (loaded.renderer, fresh))
    assert torch.equal(ours.rgb, theirs.rgb) and torch.equal(ours.logits, theirs.logits)


def test_too_little_memory_for_a_checkpoint_is_not_taken_for_a_wrong_file(config, monkeypatch):
    train(config)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loading, "build_model", fail)
    with pytest.raises(SemflowError, match="not enough memory on cpu.*--device") as caught:
        load_run(Path(config.out), "cpu")
    assert not isinstance(caught.value, CheckpointError)


def test_a_checkpoint_of_the_static_stage_is_shown_without_the_untrained_field(config, tmp_path):
    train(replace(config, train=replace(config.train, save_every=1, keep=99)))
    found = [load_run(Path(config.out), "cpu", path) for _, path in all_checkpoints(Path(config.out) / "checkpoints")]
    first = config.static_stage.steps
    assert [run.renderer.static_only for run in found] == [run.step <= first for run in found]
    assert {run.step for run in found} >= {first, first + 1}
    total = first + config.dynamic_stage.steps
    assert found[-1].identity == {"checkpoint": found[-1].checkpoint.name, "step": total, "steps": total, "settings": []}


def test_non_finite_loss_stops_before_the_update(config, monkeypatch):
    trainer = Trainer(config)
    original = stage_work.build_losses

    def poisoned(stage):
        losses = original(stage)

        def call(outputs, batch, scene, model):
            total, terms = losses(outputs, batch, scene, model)
            if trainer.step == 2:
                terms = terms | {"semantic_static": terms["semantic_static"] * float("nan")}
            return total, terms

        call.branches, call.terms = losses.branches, losses.terms
        return call

    monkeypatch.setattr(stage_work, "build_losses", poisoned)
    with pytest.raises(SemflowError, match=r"step 2: loss semantic_static is not finite"):
        trainer.run()
    saved = load_checkpoint(Path(config.out) / "failure_0000002.safetensors")
    assert saved["step"] == 2 and saved["terms"]["semantic_static"] == "nan"
    assert_same(saved["model"], trainer.model.state_dict())
    before = load_checkpoint(RunFolder(config.out).require_checkpoint())
    assert before["step"] == 2
    assert all(torch.equal(saved[name], before[name]) for name in ("generator", "host_generator"))
    assert_same(saved["model"], before["model"])


def test_a_gradient_that_is_not_finite_stops_before_the_update(config, monkeypatch):
    """As of a square root at zero: every loss is finite."""
    trainer = Trainer(config)
    original = stage_work.StageWork.add_gradients

    def poisoned(self, *args):
        found = original(self, *args)
        if trainer.step == 2:
            next(trainer.model.static.parameters()).grad.view(-1)[0] = float("nan")
        return found

    monkeypatch.setattr(stage_work.StageWork, "add_gradients", poisoned)
    with pytest.raises(SemflowError, match="step 2: the gradient of finite losses is not finite"):
        trainer.run()
    saved = load_checkpoint(Path(config.out) / "failure_0000002.safetensors")
    assert saved["terms"]["gradient"] == "nan" and RunFolder(config.out).require_checkpoint().stem == "step-00000002"
    assert_same(saved["model"], weights(config.out))
    assert all(bool(value.isfinite().all()) for value in saved["model"].values())


def test_several_scenes_train_in_one_model(config):
    both = replace(config, data=replace(config.data, scenes=("one", "two")))
    train(both)
    loaded = load_run(Path(both.out), "cpu")
    assert loaded.scene_names == ("one", "two")
    views = [loaded.renderer.render(name, loaded.cameras(name), 0, 0.0, frozenset({"rgb"})).rgb for name in loaded.scene_names]
    assert not torch.allclose(views[0], views[1], atol=1e-3)


def test_a_norm_of_zero_clips_nothing(config, tmp_path):
    runs = [replace(config, out=str(tmp_path / str(norm)), train=replace(config.train, clip_norm=norm))
            for norm in (0.0, 1e9, 1e-3)]
    unclipped, high, low = (weights(trained(run)) for run in runs)
    assert_same(unclipped, high)
    assert any(not torch.equal(high[name], low[name]) for name in high)


def test_a_batch_without_labels_does_not_hide_the_scores_of_others():
    nan = float("nan")
    figures = stage_work.Figures.of_step(("a",), torch.tensor([[1.0, 20.0, nan, 4.0], [3.0, 30.0, 0.5, 6.0]]))
    assert figures.values.tolist() == [2.0, 25.0, 0.5, 5.0]
    broken = stage_work.Figures.of_step(("a",), torch.tensor([[1.0, 20.0, nan, nan], [3.0, 30.0, nan, 6.0]]))
    assert broken.miou.isnan() and broken.terms["a"].isnan()  # a term that is missing is a mistake, not a gap


def test_accumulated_gradient_is_the_mean_over_micro_batches(config):
    gradients = []
    for accumulate in (1, 2):
        trainer = Trainer(replace(config, out=config.out + str(accumulate), train=replace(config.train, accumulate=accumulate)))
        seen = []
        stage = trainer_module.stages_of(trainer.config)[0]
        optimizer = trainer_module.build_optimizer(stage, trainer.model)
        optimizer.step = lambda: seen.append([p.grad.clone() for g in optimizer.param_groups for p in g["params"]])
        work = stage_work.StageWork(stage, trainer.config, trainer.model, trainer.scenes, trainer.contexts)
        guard = FiniteGuard(optimizer, work.names, trainer.refuse)
        for _ in range(2 // accumulate):
            trainer.train_step(stage, optimizer, work, guard)
        gradients.append(seen)
    singles, (both,) = gradients
    for first, second, mean in zip(*singles, both):
        assert torch.allclose((first + second) / 2, mean, atol=1e-6)


def test_bf16_trains_the_fields_and_keeps_renderings_in_float32(config):
    trainer = Trainer(replace(config, train=replace(config.train, bf16=True)))
    trainer.run()
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in trainer.model.parameters())


def test_adaptation_starts_from_shared_weights(config, tmp_path):
    """From two scenes to one: planes and scene codes are those of the new scene, not of the first; densities start as a fog."""
    config = replace(config, model=replace(config.model, flow_encoding="frequency", scene_code=3),
                     data=replace(config.data, scenes=("one", "two")))
    train(config)
    start = str(RunFolder(config.out).require_checkpoint())
    other = replace(config, out=str(tmp_path / "adapted"), init=start, data=replace(config.data, scenes=("two",)))
    scratch = Trainer(replace(other, init="", out=str(tmp_path / "scratch"))).model.state_dict()
    own, trained = Trainer(other).model.state_dict(), weights(config.out)
    per_scene = {name for name in own if ".encoding." in name or ".density." in name}
    assert not own["static.density.weight"].any() and trained["static.density.weight"].any()
    assert {"flow.encoding.codes", "static.encoding.space.0", "dynamic.encoding.time.1"} <= per_scene
    assert_same({name: own[name] for name in own if name not in per_scene},
                {name: trained[name] for name in own if name not in per_scene})
    assert_same({name: own[name] for name in per_scene}, {name: scratch[name] for name in per_scene})


def test_densities_of_frequencies_are_taken_over(config, tmp_path):
    """Places mean the same in every scene there; only planes are new."""
    config = replace(config, model=replace(config.model, encoding="frequency", flow_encoding="frequency"))
    train(config)
    start = str(RunFolder(config.out).require_checkpoint())
    own = Trainer(replace(config, out=str(tmp_path / "adapted"), init=start)).model.state_dict()
    assert_same(own, weights(config.out))


def test_adaptation_refuses_other_sizes(config, tmp_path):
    train(config)
    wider = replace(config, out=str(tmp_path / "wider"), init=str(RunFolder(config.out).require_checkpoint()),
                    model=replace(config.model, static_width=24))
    with pytest.raises(CheckpointError, match="another shape"):
        Trainer(wider)


def test_learning_rate_falls_tenfold_in_decay_steps(config):
    stage = trainer_module.stages_of(config)[1]
    trainer = Trainer(config)
    optimizer = trainer_module.build_optimizer(stage, trainer.model)
    trainer_module.set_learning_rate(optimizer, stage, stage.first_step + stage.config.decay_steps)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(stage.config.lr / 10)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(stage.config.plane_lr / 10)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_gives_the_same_run(config, tmp_path):
    """SIGKILL at several moments, resumed by the same command each time: weights equal to those of one whole run."""
    longer = {"steps": 60}
    config = replace(config, static_stage=replace(config.static_stage, **longer),
                     dynamic_stage=replace(config.dynamic_stage, **longer))
    whole = trained(replace(config, out=str(tmp_path / "whole")))
    file = tmp_path / "config.txt"
    file.write_text(config_to_text(config))
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for kill, delay in enumerate((0.0, 0.05, 0.2, 0.5)):  # at the write of a checkpoint and at moments after it
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        seen = RunFolder(config.out).newest_checkpoint
        while process.poll() is None and RunFolder(config.out).newest_checkpoint == seen:
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"the run ended before kill {kill}"
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    assert_same(weights(whole), weights(config.out))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_recorded_steps_train_as_others_do(config, tmp_path, monkeypatch):
    """Not to the last digit: a GPU adds up gradients in any order."""
    losses, recorded, record = [], [], CudaGraphs.__call__
    monkeypatch.setattr(CudaGraphs, "__call__", lambda self, work: recorded.append(work) or record(self, work))
    for graphs in (False, True):
        other = replace(config, out=str(tmp_path / f"graphs-{graphs}"), device="cuda",
                        dynamic_stage=replace(config.dynamic_stage, steps=25), train=replace(config.train, cuda_graphs=graphs))
        trainer, found = Trainer(other), []
        original = trainer.train_step
        trainer.train_step = lambda *args: found.append(original(*args)) or found[-1]
        trainer.run()
        losses.append([[float(figures.loss), *map(float, figures.terms.values())] for figures in found])
    assert len(recorded) >= 2  # a kind of each stage
    for plain, repeated in zip(*losses):
        assert repeated == pytest.approx(plain, rel=0.02, abs=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_lets_no_update_follow_a_loss_that_is_not_finite(config, monkeypatch, graphs):
    """The host hears of it a step later; the weights are those of the step that failed."""
    trainer = Trainer(replace(config, device="cuda", train=replace(config.train, cuda_graphs=graphs)))
    original = stage_work.build_losses

    def poisoned(stage):
        losses = original(stage)

        def call(outputs, batch, scene, model):
            total, terms = losses(outputs, batch, scene, model)
            factor = float("nan") if trainer.step == 1 else 1.0
            return factor * total, {name: factor * value for name, value in terms.items()}

        call.branches, call.terms = losses.branches, losses.terms
        return call

    monkeypatch.setattr(stage_work, "build_losses", poisoned)
    weights = {}
    step = trainer.train_step

    def kept(*args):
        weights.setdefault(trainer.step, {name: value.clone() for name, value in trainer.model.state_dict().items()})
        return step(*args)

    trainer.train_step = kept
    with pytest.raises(SemflowError, match="step 1: loss .* is not finite"):
        trainer.run()
    assert trainer.step == 2
    assert_same(weights[1], trainer.model.state_dict())
