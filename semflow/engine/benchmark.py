"""Measuring: training steps, rendering and encoding, each beside a matrix product of the same moment.

Every case runs in a process of its own, so that peaks of memory do not add up. Times are medians after a warm-up;
each repeat is paired with a product of two 2048x2048 float32 matrices, and the ratio ("products") is what can be
compared between machines, and between moments of one busy machine.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semflow.config.schema import Config
from semflow.data.supervision import supervise
from semflow.engine.benchmark_scene import random_context, random_scene
from semflow.engine.building import build_model, encode_scenes
from semflow.engine.scenes import KeptScene, TrainingScene, kept
from semflow.engine.stages import Stage, build_losses, build_optimizer, build_renderer, build_samplers
from semflow.models.semantic_flow import SceneContext, SemanticFlow
from semflow.rendering.model_renderer import ModelRenderer
from semflow.utils.device import resolve_device, set_up_torch
from semflow.utils.errors import SemflowError
from semflow.utils.ranks import average_gradients

CASES = ("static", "dynamic", "render", "encode")
PRODUCT_SIZE = 2048
PROC = Path("/proc/self")


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is measured.

    Attributes:
        config: sizes of the networks and of the steps (rays, samples, losses of both stages), and of rendering.
        height, width, frames, classes: of the random scene.
        repeats: timed steps per case, after one that is not timed (frames and encodings: one in ten, at least one).
        threads: CPU threads (0 = torch's choice). device: where the networks run.
    """

    config: Config
    height: int
    width: int
    frames: int
    classes: int
    repeats: int = 5
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Measurement:
    """Figures of one case.

    Attributes:
        seconds: median time of a step, a frame or an encoding. product_seconds: median time of the product beside it.
        products: median ratio of the two. peak_bytes: peak memory, of the process on the CPU and of torch on CUDA.
        runs: timed runs. setup_bytes: memory in use before the first run.
    """

    seconds: float
    product_seconds: float
    products: float
    peak_bytes: int
    setup_bytes: int
    runs: int


@dataclass(frozen=True)
class Bench:
    """Scene and networks that the cases share."""

    settings: BenchmarkSettings
    device: torch.device
    scene: TrainingScene
    kept: KeptScene
    model: SemanticFlow
    context: SceneContext


def measure(settings: BenchmarkSettings, case: str) -> Measurement:
    """Measure a case in a fresh process.

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


def measure_here(settings: BenchmarkSettings, case: str) -> Measurement:
    """Measure a case in this process; its peak includes whatever the process held before."""
    device = resolve_device(settings.device)
    set_up_torch(settings.threads)
    torch.manual_seed(0)
    bench = build_bench(settings, device)
    work = {"static": static_step, "dynamic": dynamic_step, "render": render_frame, "encode": encode_clip}[case](bench)
    repeats = settings.repeats if case in ("static", "dynamic") else max(1, settings.repeats // 10)
    return time_work(work, repeats, device)


def build_bench(settings: BenchmarkSettings, device: torch.device) -> Bench:
    """Random scene and fresh networks; random maps take the place of the deep encoders'."""
    config = settings.config
    data = random_scene(config.data, settings.frames, settings.height, settings.width, settings.classes, 0).to(device)
    scene = TrainingScene(data, supervise(data, False, tuple(range(data.frames))))
    shown = kept(scene, config.encoder.surface_cues)
    model = build_model(config, [shown], device)
    return Bench(settings, device, scene, shown, model, random_context(model, shown))


def static_step(bench: Bench) -> Callable[[], None]:
    """One step of the static stage."""
    return training_step(bench, Stage("static", bench.settings.config.static_stage, "static", True, 0))


def dynamic_step(bench: Bench) -> Callable[[], None]:
    """One step of the dynamic stage."""
    return training_step(bench, Stage("dynamic", bench.settings.config.dynamic_stage, "dynamic", False, 0))


def training_step(bench: Bench, stage: Stage) -> Callable[[], None]:
    """A whole step: rays of the middle frame, rendering, losses, backward, clip and Adam.

    The middle frame has both neighbours, as all frames but the first and the last: no step costs more.
    """
    config, generator = bench.settings.config, torch.Generator(bench.device).manual_seed(0)
    losses = build_losses(stage)
    renderer = build_renderer(stage, losses, bench.model, config.render.flow_density_prior)
    sampler = build_samplers(stage, [bench.scene])[0]
    optimizer = build_optimizer(stage, bench.model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    frame = bench.scene.data.frames // 2

    def step() -> None:
        batch = sampler.gather(frame, sampler.choose(frame, generator))
        outputs = renderer.render(bench.context, batch, generator)
        total, _ = losses(outputs, batch, bench.context, bench.model)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.train.clip_norm)
        optimizer.step()

    return step


def render_frame(bench: Bench) -> Callable[[], None]:
    """Colours and semantics of one frame; each from a new camera, so that nothing is kept from the one before."""
    renderer = ModelRenderer(bench.model, {bench.kept.name: bench.context}, bench.settings.config.render)
    cameras = bench.kept.cameras
    small = cameras.resized(9, 16)
    calls = 0

    def render() -> None:
        nonlocal calls
        view = cameras if calls else small  # warming up takes no whole frame
        time_ = float(len(cameras) // 2)
        renderer.render(bench.kept.name, view, calls % len(cameras), time_, frozenset({"rgb", "semantic"}))
        calls += 1

    return render


def encode_clip(bench: Bench) -> Callable[[], None]:
    """The frozen encoders over all frames of the scene, after a clip of two small frames."""
    warm = replace(bench.kept, rgb=bench.kept.rgb[:2, :32, :32])
    scenes = [bench.kept, warm]
    return lambda: encode_scenes(bench.model, [scenes.pop() if len(scenes) > 1 else bench.kept]) and None


def time_work(work: Callable[[], None], repeats: int, device: torch.device) -> Measurement:
    """Run `work` once without and `repeats` times with a clock, each beside a product."""
    matrices = torch.randn(2, PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    setup = reset_peak(device)
    seconds_of(lambda: matrices[0] @ matrices[1], device)
    work()
    pairs = []
    for _ in range(repeats):
        before = seconds_of(lambda: matrices[0] @ matrices[1], device)
        seconds = seconds_of(work, device)
        pairs.append((seconds, (before + seconds_of(lambda: matrices[0] @ matrices[1], device)) / 2))
    times, products = zip(*pairs)
    return Measurement(
        seconds=statistics.median(times), product_seconds=statistics.median(products),
        products=statistics.median(a / b for a, b in pairs), peak_bytes=peak(device), setup_bytes=setup, runs=repeats)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of `work`, its kernels included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reset_peak(device: torch.device) -> int:
    """Forget the peak so far, where the system allows it; returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:  # the peak then includes the making of scene and networks
        pass
    return peak(device)


def peak(device: torch.device) -> int:
    """Peak memory in bytes: torch's on CUDA, else the resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (PROC / "status").exists():
        line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource  # systems without /proc; the unit is bytes there

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
