"""The training loop: one for all stages, tasks, baselines and ablations."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from semflow.config.parser import config_to_dict
from semflow.config.schema import Config
from semflow.engine.building import build_trained_model, encode_scenes
from semflow.engine.checkpoint import checkpoint_path, load_checkpoint, prune_checkpoints, save_checkpoint
from semflow.engine.estimate import NO_MEMORY, estimate
from semflow.engine.finite import GRADIENT, FiniteGuard, Suspect
from semflow.engine.initial_weights import check_same_weights, start_from
from semflow.engine.interrupt import GracefulStop
from semflow.engine.progress import Progress
from semflow.engine.run_folder import RunFolder
from semflow.engine.scenes import check_same_scenes, kept, load_training_scenes, scene_to_state
from semflow.engine.stage_work import Figures, StageWork
from semflow.engine.stages import Stage, build_optimizer, set_learning_rate, stages_of
from semflow.engine.tensorboard import TensorBoard
from semflow.rendering.model_renderer import ModelRenderer
from semflow.utils.device import describe_device, resolve_device, set_up_torch
from semflow.utils.errors import CheckpointError, SemflowError
from semflow.utils.memory import shortage_as_error
from semflow.utils.ranks import any_rank, rank, ranks
from semflow.viz.panels import training_panel

LONG_RUN = 5000  # steps from which time and memory are estimated before the first one
PANEL_QUANTITIES = frozenset({"rgb", "semantic", "depth", "flow"})


class Trainer:
    """Trains the model of a configuration and keeps its run folder.

    Several ranks do the same on rays of their own, with the same random state and the same weights; rank 0 writes.

    Args:
        config: the run. resume: checkpoint to go on from, None for a new start.
        overwrite: move an old run folder aside, once the data have been read and the model has been built.

    Raises:
        SemflowError: for wrong data, configurations and checkpoints.
    """

    def __init__(self, config: Config, resume: Path | None = None, overwrite: bool = False):
        set_up_torch(config.train.threads, config.train.tf32)
        self.config, self.device, self.folder = config, resolve_device(config.device), RunFolder(config.out)
        self.scenes = load_training_scenes(config, self.device)
        self.kept = [kept(scene, config.encoder.surface_cues) for scene in self.scenes]
        self.model = build_trained_model(config, self.kept, self.device)
        if config.init and resume is None:
            start_from(self.model, Path(config.init), self.kept[0])
        self.generator = torch.Generator(self.device).manual_seed(config.train.seed)
        self.host_generator = torch.Generator().manual_seed(config.train.seed)
        self.step, self.optimizer_state = 0, None
        if resume is not None:
            self.restore(self.checkpoint(resume))
        if rank() == 0:
            if overwrite and (moved := self.folder.move_aside()):
                print(f"the old {self.folder.path} is now {moved}")
            self.folder.create(config)
        self.contexts = encode_scenes(self.model, self.kept)
        self.announce()

    def announce(self) -> None:
        """Say what is trained, on what, with which weights."""
        trainable = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        lines = [f"device: {describe_device(self.device)}", f"video encoder: {self.model.video_encoder.description()}"]
        lines += [f"image encoder: {self.model.image_encoder.description()}", f"trainable parameters: {trainable:,}"]
        if ranks() > 1:
            lines.append(f"processes: {ranks()}, the rays of a step are split among them")
        lines += [
            f"scene {s.data.name}: {s.data.frames} frames of {s.data.width}x{s.data.height}, {s.supervision.summary}"
            for s in self.scenes
        ]
        for line in lines:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line and keep it in the run folder."""
        if rank() == 0:
            print(line, flush=True)
            self.folder.log(line)

    def checkpoint(self, path: Path) -> dict:
        """The state of a checkpoint, if this run can go on from it exactly."""
        state = load_checkpoint(path, self.device)
        if any(name not in state or state[name].numel() != own.numel() for name, own in self.random_states().items()):
            raise CheckpointError(f"{path}: its random numbers are those of an older semflow or of another kind of device; go "
                                  f"on with that, or start a new run from its weights by --init {path} --out FOLDER")
        check_same_scenes(path, self.kept, state["scenes"])
        check_same_weights(path, self.model, state["model"])
        return state

    def restore(self, state: dict) -> None:
        """Take over weights, optimiser, random states and step of a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.generator.set_state(state["generator"].cpu())
        self.host_generator.set_state(state["host_generator"].cpu())
        self.step, self.optimizer_state = state["step"], state["optimizer"]

    def random_states(self) -> dict[str, Tensor]:
        """All that random numbers come from: `generator` on the device, `host_generator` for what the program decides by."""
        return {"generator": self.generator.get_state(), "host_generator": self.host_generator.get_state()}

    def save(self, optimizer: torch.optim.Adam) -> Path:
        """Write a checkpoint of the current step and drop old ones."""
        path = checkpoint_path(self.folder.checkpoints, self.step)
        if rank():
            return path
        save_checkpoint(path, self.state(optimizer))
        prune_checkpoints(self.folder.checkpoints, self.config.train.keep)
        return path

    def state(self, optimizer: torch.optim.Adam) -> dict:
        """Everything that a resumed run and a renderer need."""
        return {
            "config": config_to_dict(self.config),
            "scenes": [scene_to_state(scene) for scene in self.kept],
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": self.step,
        } | self.random_states()

    def run(self) -> bool:
        """Run the stages that are left; False if a signal ended the run early (everything is saved)."""
        resumed_at = self.step if self.step else None
        total = sum(stage.config.steps for stage in stages_of(self.config))
        if total - self.step >= LONG_RUN:
            self.say(estimate(self))
        alone = self.folder.locked() if rank() == 0 else nullcontext()
        with alone, GracefulStop() as stop, TensorBoard(self.folder.tensorboard, resumed_at) as board:
            for stage in stages_of(self.config):
                stopped = self.step < stage.last_step and self.run_stage(stage, stop, board)
                if stopped and self.step < total:
                    cause = stop.signal_name or "a signal to another process"
                    print(f"stopped by {cause} after step {self.step}; the same command goes on from there")
                    any_rank(True)  # all wait for rank 0 to have saved: torchrun ends the others when the first has left
                    return False
        if rank() == 0:
            self.folder.mark_finished({"steps": self.step})
        print(f"finished: {self.folder.path}\nevaluate: semflow evaluate --run {self.folder.path}\n"
              f"render:   semflow render --run {self.folder.path} --path novel --what rgb,semantic --side-by-side")
        return True

    def run_stage(self, stage: Stage, stop: GracefulStop, board: TensorBoard) -> bool:
        """Run one stage from the current step to its end, or until a signal asks to stop; either way it is saved.

        Returns:
            Whether a signal has come, to whichever rank: all stop after the same step.
        """
        optimizer = build_optimizer(stage, self.model)
        if self.optimizer_state is not None and self.step > stage.first_step:
            optimizer.load_state_dict(self.optimizer_state)
        self.optimizer_state = None
        work = StageWork(stage, self.config, self.model, self.scenes, self.contexts)
        guard = FiniteGuard(optimizer, work.names, self.refuse)
        self.model.train()
        stopped = any_rank(stop.requested)
        progress = Progress(stage.name, stage.config.steps, self.step - stage.first_step)
        with progress, work.on_its_stream():
            while self.step < stage.last_step and not stopped:
                with shortage_as_error(f"step {self.step}: {NO_MEMORY}"):
                    figures = self.train_step(stage, optimizer, work, guard)
                progress.update(figures.loss, figures.psnr, figures.miou)
                self.log(stage, figures, optimizer, board)
                stopped = any_rank(stop.requested)
                if self.step == stage.last_step or stopped or self.step % self.config.train.save_every == 0:
                    guard.settle()
                    self.save(optimizer)
        return stopped

    def train_step(self, stage: Stage, optimizer: torch.optim.Adam, work: StageWork, guard: FiniteGuard) -> Figures:
        """One optimiser step: every scene, every micro-batch, then clip and update.

        On a GPU all of this is queued without waiting.
        """
        set_learning_rate(optimizer, stage, self.step)
        work.clear_gradients(optimizer)
        suspect = Suspect(self.step, self.random_states())
        found = []
        for scene, sampler in enumerate(work.samplers):
            for _ in range(self.config.train.accumulate):
                frame, source = sampler.frames(self.host_generator)
                suspect.frames.append(frame)
                found.append(work.add_gradients(scene, frame, source, self.generator))
        values, norm = work.combine(optimizer, found)
        guard.admit(values, norm, suspect)
        optimizer.step()
        self.step += 1
        return Figures.of_step(work.names, values)

    def refuse(self, terms: dict[str, float], suspect: Suspect, optimizer: torch.optim.Adam) -> None:
        """Stop for a loss or a gradient that is not finite, and keep what reproduces it: the weights and the state at the step's start."""
        bad = [name for name, value in terms.items() if name != GRADIENT and not math.isfinite(value)]
        what = f"loss {', '.join(bad)}" if bad else f"the {GRADIENT} of finite losses"
        remedy = "lower the learning rates" + (" or the weight of that loss" if bad else "")
        path = self.folder.path / f"failure_{suspect.step:07d}.safetensors"
        if rank() == 0:
            values = {name: repr(value) for name, value in terms.items()}
            at_start = suspect.random_states | {"step": suspect.step, "frame": suspect.frame, "terms": values}
            save_checkpoint(path, self.state(optimizer) | at_start)
        raise SemflowError(
            f"step {suspect.step}: {what} is not finite; weights are unchanged since the last step and the state "
            f"of this step is in {path}: {remedy}")

    def log(self, stage: Stage, report: Figures, optimizer, board: TensorBoard) -> None:
        """TensorBoard scalars and panels, when due."""
        if rank():
            return
        train = self.config.train
        if self.step % train.log_every == 0:
            rates = {f"{stage.name}/learning_rate": optimizer.param_groups[0]["lr"]}
            figures = {"loss": report.loss, "psnr": report.psnr, "miou": report.miou}
            named = {f"{stage.name}/{key}": value for key, value in (figures | report.terms).items()}
            board.scalars(named | rates, self.step)
        if stage.shows_colours and train.images_every and self.step % train.images_every == 0:
            self.panel(board, stage)

    def panel(self, board: TensorBoard, stage: Stage) -> None:
        """A training view of every scene beside its truth; the frame changes from panel to panel."""
        contexts = {scene.name: context for scene, context in zip(self.kept, self.contexts)}
        renderer = ModelRenderer(self.model, contexts, self.config.render, static_only=stage.static_rays)
        for scene in self.scenes:
            frame = (self.step // self.config.train.images_every) % scene.data.frames
            view = renderer.render(scene.data.name, scene.data.cameras, frame, frame, PANEL_QUANTITIES)
            picture = torch.from_numpy(training_panel(view, scene.data, frame))
            board.image(f"{scene.data.name}/panel", picture, self.step)
        self.model.train()


def train(config: Config, resume: Path | None = None, overwrite: bool = False) -> bool:
    """Train a configuration; False if a signal ended the run early, which is saved and can go on."""
    return Trainer(config, resume, overwrite).run()
