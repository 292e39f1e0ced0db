"""Time to quality: metrics on held-out views over pure training time.

Learning rates fall with the steps, so a checkpoint half way is worse than a run of half the length. By default every point
is therefore a whole run whose stages are shortened or lengthened until it fits the time; the alternative is checkpoints
along one run, the longest. Everything lies in one folder, and a repeated call goes on where it stopped.

<out>/pilot/              a few steps of each stage; `steps.json`: their times
<out>/minutes-M/          run folder of M minutes, its evaluation in `eval/`
<out>/along-M/            the same with checkpoints on the way in `marks/`, evaluated in `eval/minutes-N/`
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semflow.config.schema import Config, StageConfig
from semflow.engine.benchmark_timing import Product
from semflow.engine.checkpoint import load_checkpoint, save_checkpoint
from semflow.engine.finite import FiniteGuard
from semflow.engine.protocols import EvaluationProtocol
from semflow.engine.replays import MOSTLY_RECORDED
from semflow.engine.run_folder import RunFolder, RunState
from semflow.engine.stage_work import Figures, StageWork
from semflow.engine.stages import STAGES, Stage, stage_field, stage_fields
from semflow.engine.trainer import Trainer
from semflow.utils.device import resolve_device
from semflow.utils.files import write_json

PILOT_STEPS, PILOT_WARM_UP = 12, 4  # of each stage; the first ones are slower
RECORDED_PILOT_STEPS = 60  # on a GPU, where the first ones are recorded
MOST_WARM_UP = 4  # warm-up of the learning rate: at most one part in four of a stage

Metrics = dict[str, "float | None"]


@dataclass(frozen=True)
class QualityPlan:
    """What is trained and judged.

    Attributes:
        config: the run; its numbers of steps only give the ratio of the stages. minutes: rising training times.
        along: one run with checkpoints, instead of a run per time. protocol, every: of the evaluation. out: folder.
    """

    config: Config
    minutes: tuple[float, ...]
    along: bool
    protocol: EvaluationProtocol
    every: int
    out: Path


@dataclass(frozen=True)
class QualityPoint:
    """One training time.

    Attributes:
        minutes: asked for. seconds: spent in training steps. product_seconds: median product beside them.
        steps: taken, by the name of their stage. images: judged.
        ours, copying: metrics of the protocol's headline group, mean over scenes.
    """

    minutes: float
    seconds: float
    product_seconds: float
    steps: dict[str, int]
    images: int
    ours: Metrics
    copying: Metrics


@dataclass(frozen=True)
class Quality:
    """A curve.

    Attributes:
        scenes: trained in one model. mode: `runs` or `along`. protocol: version. every: one in N views judged.
        step_seconds: stage -> time of a step in the pilot. setup_seconds: reading, calibrating, encoding the scenes, once.
        points: by time.
    """

    scenes: tuple[str, ...]
    mode: str
    protocol: str
    every: int
    step_seconds: dict[str, float]
    setup_seconds: float
    points: list[QualityPoint]


class TimedTrainer(Trainer):
    """A trainer that adds up the time of its steps, products beside them, and keeps both in its checkpoints.

    Evaluation, saving, panels and progress do not count.

    Args:
        config, resume: as for `Trainer`. marks: minutes at which a checkpoint is kept beside the usual ones.
    """

    def __init__(self, config: Config, resume: Path | None = None, marks: tuple[float, ...] = ()):
        self.training_seconds, self.product_seconds = 0.0, []
        self.step_seconds: dict[str, list[float]] = {}
        super().__init__(config, resume)
        self.marks = [mark for mark in marks if not mark_path(self.folder, mark).exists()]
        self.product = Product(self.device)
        self.product.seconds()

    def restore(self, state: dict) -> None:
        """Also the times."""
        super().restore(state)
        self.training_seconds, self.product_seconds = state["training_seconds"], state["product_seconds"]

    def state(self, optimizer: torch.optim.Adam) -> dict:
        """Also the times."""
        times = {"training_seconds": self.training_seconds, "product_seconds": self.product_seconds}
        return super().state(optimizer) | times

    def save(self, optimizer: torch.optim.Adam) -> Path:
        """Time a product before saving."""
        self.product_seconds = [*self.product_seconds, self.product.seconds()]
        return super().save(optimizer)

    def train_step(self, stage: Stage, optimizer: torch.optim.Adam, work: StageWork, guard: FiniteGuard) -> Figures:
        """A step with a clock; on a GPU it has been queued then, and the one before it is done but for its update."""
        start = time.perf_counter()
        report = super().train_step(stage, optimizer, work, guard)
        seconds = time.perf_counter() - start
        self.training_seconds += seconds
        self.step_seconds.setdefault(stage.name, []).append(seconds)
        while self.marks and 60 * self.marks[0] <= self.training_seconds:
            self.product_seconds = [*self.product_seconds, self.product.seconds()]
            guard.settle()
            save_checkpoint(mark_path(self.folder, self.marks.pop(0)), self.state(optimizer))
        return report


def mark_path(folder: RunFolder, minutes: float) -> Path:
    """The checkpoint of a mark."""
    return folder.path / "marks" / f"minutes-{minutes:g}.safetensors"


def measure_quality(plan: QualityPlan, judge: Callable[[Path, Path], None], say: Callable[[str], None] = print) -> Quality:
    """Train and judge all points that are not there yet.

    Args:
        plan: what to do. judge: evaluates a checkpoint into a folder, under the plan's protocol and subset.
        say: is told about each point.

    Raises:
        SemflowError: for wrong data, or a folder that holds runs of another configuration.
        KeyboardInterrupt: a signal ended a run; it is saved.
    """
    pilot = run_pilot(plan)
    steps = {name: pilot[name] for name in STAGES if name in pilot}
    points = []
    for minutes in plan.minutes[-1:] if plan.along else plan.minutes:
        say(f"quality, training for {minutes:g} min")
        config = fitted(plan.config, 60 * minutes, steps)
        config = replace(config, out=str(plan.out / f"{'along' if plan.along else 'minutes'}-{minutes:g}"))
        points += run_and_judge(plan, config, minutes, judge, say)
    mode = "along" if plan.along else "runs"
    return Quality(plan.config.data.scenes, mode, plan.protocol.version, plan.every, steps, pilot["setup"], points)


def run_and_judge(plan: QualityPlan, config: Config, minutes: float, judge: Callable[[Path, Path], None],
                  say: Callable[[str], None]) -> list[QualityPoint]:
    """Points of one run: its end, and with `along` the marks before it."""
    folder, marks, points = RunFolder(config.out), plan.minutes[:-1] if plan.along else (), []
    train_to_the_end(config, marks)
    for mark in marks:
        if mark_path(folder, mark).exists():
            points.append(judged(plan, config, mark, mark_path(folder, mark), folder.eval / f"minutes-{mark:g}", judge))
        else:
            say(f"quality, no checkpoint at {mark:g} min: the run was shorter, or made without this mark")
    return [*points, judged(plan, config, minutes, folder.require_checkpoint(), folder.eval, judge)]


def run_pilot(plan: QualityPlan) -> dict[str, float]:
    """Median seconds of a step by stage, and `setup`: those before the first step."""
    config, times = plan.config, plan.out / "pilot" / "steps.json"
    most, warm_up = PILOT_STEPS, PILOT_WARM_UP
    if resolve_device(config.device).type == "cuda" and config.train.cuda_graphs:
        most, warm_up = RECORDED_PILOT_STEPS, MOSTLY_RECORDED
    stages = {name: replace(stage, steps=min(most, stage.steps)) for name, stage in stage_fields(config).items()}
    config = replace(config, **stages, out=str(plan.out / "pilot"))
    if RunFolder(config.out).state(config) is not RunState.FINISHED or not times.exists():
        start = time.perf_counter()
        trainer = TimedTrainer(config)
        setup = time.perf_counter() - start
        if not trainer.run():
            raise KeyboardInterrupt
        medians = {name: statistics.median(seconds[warm_up:] or seconds)
                   for name, seconds in trainer.step_seconds.items()}
        write_json(times, medians | {"setup": setup})
    return json.loads(times.read_text(encoding="utf-8"))


def fitted(config: Config, seconds: float, step_seconds: Mapping[str, float]) -> Config:
    """The configuration with its stages scaled by one factor, so that all steps together take `seconds`.

    The decay of the learning rates is scaled along.
    """
    stages = stage_fields(config)
    whole = sum(stage.steps * step_seconds[name.removesuffix("_stage")] for name, stage in stages.items() if stage.steps)
    factor = seconds / whole
    return replace(config, **{name: scaled(stage, factor) for name, stage in stages.items() if stage.steps})


def scaled(stage: StageConfig, factor: float) -> StageConfig:
    """A stage of `factor` times the length."""
    steps, decay = max(1, round(factor * stage.steps)), max(1, round(factor * stage.decay_steps))
    return replace(stage, steps=steps, decay_steps=decay, warmup_steps=min(stage.warmup_steps, steps // MOST_WARM_UP))


def train_to_the_end(config: Config, marks: tuple[float, ...]) -> None:
    """Train what is not trained yet; KeyboardInterrupt if a signal ends the run."""
    folder = RunFolder(config.out)
    state = folder.state(config)
    if state is not RunState.FINISHED:
        resume = folder.newest_checkpoint if state is RunState.UNFINISHED else None
        if not TimedTrainer(config, resume, marks).run():
            raise KeyboardInterrupt


def judged(
    plan: QualityPlan, config: Config, minutes: float, checkpoint: Path, out: Path, judge: Callable[[Path, Path], None]
) -> QualityPoint:
    """Metrics of a checkpoint, from an earlier evaluation of it where there is one."""
    metrics = out / plan.protocol.name / "metrics.json"
    found = read_evaluation(metrics, checkpoint, plan.every)
    if found is None:
        judge(checkpoint, out)
        found = json.loads(metrics.read_text(encoding="utf-8"))
    state = load_checkpoint(checkpoint)
    group = plan.protocol.headline
    images = sum(scene["groups"][group]["images"] for scene in found["scenes"].values() if scene["groups"][group])
    return QualityPoint(
        minutes, state["training_seconds"], statistics.median(state["product_seconds"]),
        steps_of_stages(config, state["step"]), images, found["mean"][group]["ours"], found["mean"][group]["copying"])


def steps_of_stages(config: Config, step: int) -> dict[str, int]:
    """How many of the first `step` steps of a run belong to each of its stages."""
    found = {}
    for name in STAGES:
        found[name] = min(step, getattr(config, stage_field(name)).steps)
        step -= found[name]
    return found


def read_evaluation(metrics: Path, checkpoint: Path, every: int) -> dict | None:
    """An evaluation of this checkpoint on this subset, if it is there.

    It is newer than the checkpoint and, where it says what was evaluated, of a file of this name, rendered as the run says.
    """
    if not metrics.exists() or metrics.stat().st_mtime < checkpoint.stat().st_mtime:
        return None
    found = json.loads(metrics.read_text(encoding="utf-8"))
    evaluated = found.get("evaluated") or {}  # absent in older ones, without a checkpoint for baselines
    other = evaluated.get("checkpoint", checkpoint.name) != checkpoint.name or evaluated.get("settings")
    return found if found["subset"]["every"] == every and not other else None
