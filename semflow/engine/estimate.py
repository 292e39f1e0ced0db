"""Time and memory of a long run, measured on a few steps of a throw-away copy before it starts."""

from __future__ import annotations

import copy
import statistics
from typing import TYPE_CHECKING

import torch

from semflow.engine.benchmark_timing import peak, seconds_of
from semflow.engine.finite import FiniteGuard
from semflow.engine.replays import MOSTLY_RECORDED
from semflow.engine.stage_work import StageWork
from semflow.engine.stages import Stage, build_optimizer, stages_of
from semflow.utils.memory import shortage_as_error

if TYPE_CHECKING:
    from semflow.engine.trainer import Trainer

STEPS = 3  # timed steps of every stage, after one that is not timed, or as many as it takes to record them
NO_MEMORY = ("there is not enough memory for a training step; switch on train.recompute, take fewer rays or samples in the "
             "stage (with more train.accumulate for the same batch), or reduce frozen features by encoder.pca; on a "
             "GPU, --no-train.cuda_graphs needs less")


def estimate(trainer: Trainer) -> str:
    """One line on the time and the memory that the steps left will take; the trainer is not changed.

    Raises:
        SemflowError: memory does not suffice for a step of a stage, also of a later one.
    """
    left = {stage: stage.last_step - max(trainer.step, stage.first_step) for stage in stages_of(trainer.config)}
    seconds = {stage: step_seconds(trainer, stage) for stage, steps in left.items() if steps > 0}
    total = sum(left[stage] * value for stage, value in seconds.items())
    steps = ", ".join(f"{value:.3g} s a {stage.name} step" for stage, value in seconds.items())
    return (f"estimated: about {in_words(total)} on this machine ({steps}; measured on {STEPS} steps each), "
            f"{peak(trainer.device) / 1e9:.1f} GB of memory")


def step_seconds(trainer: Trainer, stage: Stage) -> float:
    """Median time of a step of a stage, on copies of everything that steps change."""
    trial = copy.copy(trainer)
    trial.model, trial.step = copy.deepcopy(trainer.model).train(), stage.first_step
    trial.generator = torch.Generator(trainer.device).manual_seed(trainer.config.train.seed)
    trial.host_generator = torch.Generator().manual_seed(trainer.config.train.seed)
    optimizer = build_optimizer(stage, trial.model)
    work = StageWork(stage, trainer.config, trial.model, trainer.scenes, trainer.contexts)
    guard = FiniteGuard(optimizer, work.names, trial.refuse)
    with shortage_as_error(f"{stage.name} stage: {NO_MEMORY}"), work.on_its_stream():
        untimed = 1 if work.graphs is None else MOSTLY_RECORDED
        for _ in range(untimed):
            trial.train_step(stage, optimizer, work, guard)
        times = [seconds_of(lambda: trial.train_step(stage, optimizer, work, guard), trainer.device) for _ in range(STEPS)]
        guard.settle()
    return statistics.median(times)


def in_words(seconds: float) -> str:
    """`40 min` or `23 h`."""
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{max(seconds / 60, 1):.0f} min"
