"""What is measured: training steps and their stages, rendering and encoding, each in a process of its own.

A fresh process per case keeps peaks of memory apart. Scenes, networks and deep features are random; no data is read.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semflow.config.schema import Config
from semflow.data.supervision import supervise
from semflow.engine.benchmark_scene import random_context, random_scene
from semflow.engine.benchmark_stages import StageTimes, time_stages
from semflow.engine.benchmark_timing import Measurement, time_work
from semflow.engine.building import build_trained_model, encode_scenes
from semflow.engine.loading import load_run
from semflow.engine.scenes import KeptScene, TrainingScene, kept
from semflow.engine.stage_work import StageWork
from semflow.engine.stages import STAGES, Stage, build_optimizer, stage_field
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import SemanticFlow
from semflow.rendering.model_renderer import ModelRenderer
from semflow.utils.device import resolve_device, set_up_torch
from semflow.utils.errors import SemflowError

STEP_CASES = ("static", "dynamic")
QUEUED_STEPS = {"cuda": 10}  # timed together: a GPU works on one while the host prepares the next, as in training
STAGE_CASES = {f"stages-{name}": name for name in STEP_CASES}
RENDER_CASES = {
    "render-rgb": frozenset({"rgb"}), "render-semantic": frozenset({"semantic"}), "render": frozenset({"rgb", "semantic"})}
CASES = (*STEP_CASES, *STAGE_CASES, *RENDER_CASES, "encode")


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is measured.

    Attributes:
        config: sizes of the networks and of the steps (rays, samples, losses of the stages), and of rendering.
        height, width, frames, classes: of each random scene. scenes: how many share the rays of a step.
        render_height, render_width: of a rendered frame. run: folder of a trained run to render ("": random networks).
        repeats: timed steps per case (on a GPU the mean of QUEUED_STEPS), after one that is not timed (stages: half as many; frames and encodings: a tenth;
            at least one).
        threads: CPU threads (0 = torch's choice). device: where the networks run.
    """

    config: Config
    height: int
    width: int
    frames: int
    classes: int
    scenes: int = 1
    render_height: int = 270
    render_width: int = 480
    run: str = ""
    repeats: int = 5
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Bench:
    """Scenes and networks that the cases share."""

    settings: BenchmarkSettings
    device: torch.device
    scenes: list[TrainingScene]
    kept: list[KeptScene]
    model: SemanticFlow
    contexts: list[SceneContext]


def measure(settings: BenchmarkSettings, case: str) -> Measurement | StageTimes:
    """Measure a case in a fresh process; for a case of STAGE_CASES the stages of a step.

    Raises:
        SemflowError: the process was killed, as it is where memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(measure_here, settings, case).result()
        except BrokenProcessPool:
            raise SemflowError(f"benchmark: the process of case {case} was killed, probably for lack of memory; "
                               "take fewer --rays, --samples or --frames") from None


def measure_here(settings: BenchmarkSettings, case: str, in_a_row: int = 1) -> Measurement | StageTimes:
    """Measure a case in this process; its peak includes whatever the process held before.

    Args:
        in_a_row: steps that are timed together, one after the other as in training; on a GPU those that are queued, if more.
    """
    device = resolve_device(settings.device)
    set_up_torch(settings.threads, settings.config.train.tf32)
    torch.manual_seed(0)
    rare = max(1, settings.repeats // 10)
    if case in RENDER_CASES:
        return time_work(render_frames(settings, device, RENDER_CASES[case]), rare, device)
    if case in STAGE_CASES:
        # what is recorded calls no function that could be watched
        train = replace(settings.config.train, recompute=False, cuda_graphs=False)
        kept_activations = replace(settings.config, train=train)
        bench = build_bench(replace(settings, config=kept_activations), device)
        return time_stages(step_of(bench, STAGE_CASES[case]), max(1, settings.repeats // 2), device)
    bench = build_bench(settings, device)
    if case == "encode":
        return time_work(encode_clip(bench), rare, device)
    step, queued = step_of(bench, case), max(in_a_row, QUEUED_STEPS.get(device.type, 1))

    def several() -> None:
        for _ in range(queued):
            step()

    return time_work(several, settings.repeats, device, queued)


def build_bench(settings: BenchmarkSettings, device: torch.device) -> Bench:
    """Random scenes and fresh networks; random maps take the place of the deep encoders'."""
    config, scenes = settings.config, []
    for seed in range(settings.scenes):
        data = random_scene(config.data, settings.frames, settings.height, settings.width, settings.classes, seed).to(device)
        scenes.append(TrainingScene(data, supervise(data, False, tuple(range(data.frames)))))
    shown = [kept(scene, config.encoder.surface_cues) for scene in scenes]
    model = build_trained_model(config, shown, device)
    return Bench(settings, device, scenes, shown, model, [random_context(model, i, scene) for i, scene in enumerate(shown)])


def step_of(bench: Bench, name: str) -> Callable[[], None]:
    """One step of the stage `static` or `dynamic`."""
    config = bench.settings.config
    stage_config = getattr(config, stage_field(name))
    return training_step(bench, Stage(name, stage_config, *STAGES[name], 0))


def training_step(bench: Bench, stage: Stage) -> Callable[[], None]:
    """A whole step: rays of each scene's middle frame, rendering, losses, backward, clip and Adam.

    The middle frame has both neighbours, as all frames but the first and the last: no step costs more.
    """
    config, generator = bench.settings.config, torch.Generator(bench.device).manual_seed(0)
    work = StageWork(stage, config, bench.model, bench.scenes, bench.contexts)
    optimizer = build_optimizer(stage, bench.model)
    frame = bench.settings.frames // 2

    def step() -> None:
        with work.on_its_stream():
            work.clear_gradients(optimizer)
            work.combine(optimizer, [work.add_gradients(scene, frame, 0, generator) for scene in range(len(bench.scenes))])
            optimizer.step()

    return step


def render_frames(settings: BenchmarkSettings, device: torch.device, what: frozenset[str]) -> Callable[[], None]:
    """Quantities of one frame; each from a new camera at a new time, so that nothing is kept from the one before."""
    if settings.run:
        loaded = load_run(Path(settings.run), settings.device)
        name, renderer = loaded.scene_names[0], loaded.renderer
        training_cameras = loaded.cameras(name)
    else:
        bench = build_bench(replace(settings, scenes=1), device)
        name, training_cameras = bench.kept[0].name, bench.kept[0].cameras
        renderer = ModelRenderer(bench.model, {name: bench.contexts[0]}, settings.config.render)
    cameras = training_cameras.resized(settings.render_height, settings.render_width)
    small = training_cameras.resized(9, 16)  # warming up takes no whole frame
    calls = 0

    def render() -> None:
        nonlocal calls
        frame = (len(cameras) // 2 + calls) % len(cameras)
        renderer.render(name, cameras if calls else small, frame, float(frame), what)
        calls += 1

    return render


def encode_clip(bench: Bench) -> Callable[[], None]:
    """The frozen encoders over all frames of a scene, after a clip of two small frames."""
    clips = [bench.kept[0], replace(bench.kept[0], rgb=bench.kept[0].rgb[:2, :32, :32])]
    return lambda: encode_scenes(bench.model, [clips.pop() if len(clips) > 1 else bench.kept[0]]) and None
