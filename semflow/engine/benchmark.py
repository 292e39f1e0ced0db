"""Measuring: training steps, rendering and encoding, each beside a matrix product of the same moment.

Every case runs in a process of its own, so that peaks of memory do not add up. Times are medians after a warm-up;
each repeat is paired with a product of two 2048x2048 float32 matrices, and the ratio ("products") is what can be
compared between machines, and between moments of one busy machine.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from semflow.config.schema import Config, StageConfig
from semflow.data.sampler import RaySampler
from semflow.data.supervision import Supervision, supervise
from semflow.engine.benchmark_scene import cues_of, random_context, random_scene
from semflow.losses import LossSet
from semflow.models.semantic_flow import SceneContext, SceneShape, SemanticFlow, scene_box
from semflow.records import RayBatch, SceneData
from semflow.rendering.model_renderer import ModelRenderer
from semflow.rendering.renderer import Renderer, Sampling
from semflow.utils.device import resolve_device, set_up_torch
from semflow.utils.errors import SemflowError

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
        skip_encoding: random maps take the place of the deep encoders' in the other cases.
    """

    config: Config
    height: int
    width: int
    frames: int
    classes: int
    repeats: int = 5
    threads: int = 0
    device: str = "auto"
    skip_encoding: bool = True


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
    scene: SceneData
    targets: Supervision
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
    """Random scene and fresh networks; the deep encoders only run where they are not skipped."""
    config = settings.config
    scene = random_scene(config.data, settings.frames, settings.height, settings.width, settings.classes, 0).to(device)
    targets = supervise(scene, False, tuple(range(scene.frames)))
    shapes = [SceneShape(scene.frames, scene_box(scene.cameras, scene.space).cpu())]
    model = SemanticFlow(config.model, config.encoder, settings.classes, shapes, config.train.seed).to(device)
    model.set_up(config.train.bf16, config.train.recompute)
    with_cues = config.encoder.surface_cues
    if settings.skip_encoding:
        context = random_context(model, scene, targets, with_cues)
    else:
        context = model.encode(0, scene.rgb, scene.cameras, scene.space, cues_of(scene, targets) if with_cues else None)
    return Bench(settings, device, scene, targets, model, context)


def static_step(bench: Bench) -> Callable[[], None]:
    """One step of the static stage."""
    return training_step(bench, bench.settings.config.static_stage, dynamic=False)


def dynamic_step(bench: Bench) -> Callable[[], None]:
    """One step of the dynamic stage."""
    return training_step(bench, bench.settings.config.dynamic_stage, dynamic=True)


def training_step(bench: Bench, stage: StageConfig, dynamic: bool) -> Callable[[], None]:
    """A whole step: rays of the middle frame, rendering, losses, backward, clip and Adam.

    The middle frame has both neighbours, as all frames but the first and the last: no step costs more.
    """
    config, model, generator = bench.settings.config, bench.model, torch.Generator(bench.device).manual_seed(0)
    losses = LossSet(stage.losses, stage.moving_only)
    sampling = Sampling(stage.samples, stage.surface_samples, stage.surface_spread, stage.density_noise, stage.moving_only,
                        config.render.flow_density_prior)
    renderer = Renderer(model, losses.branches, sampling, static_frozen=dynamic)
    sampler = RaySampler(bench.scene, bench.targets, stage.rays, static_only=not dynamic)
    parameters = model.parameter_groups()["dynamic" if dynamic else "static"]
    optimizer = torch.optim.Adam(parameters, lr=stage.lr)
    frame = bench.scene.frames // 2

    def step() -> None:
        batch = sampler.gather(frame, sampler.choose(frame, generator))
        total = loss_of(renderer, losses, bench, batch, generator)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.train.clip_norm)
        optimizer.step()

    return step


def loss_of(renderer: Renderer, losses: LossSet, bench: Bench, batch: RayBatch, generator: torch.Generator) -> Tensor:
    """The weighted total loss (scalar) of a batch."""
    outputs = renderer.render(bench.context, batch, generator)
    return losses(outputs, batch, bench.context, bench.model)[0]


def render_frame(bench: Bench) -> Callable[[], None]:
    """Colours and semantics of one frame; each from a new camera, so that nothing is kept from the one before."""
    renderer = ModelRenderer(bench.model, {"random": bench.context}, bench.settings.config.render)
    cameras = bench.scene.cameras
    small = cameras.resized(9, 16)
    calls = 0

    def render() -> None:
        nonlocal calls
        view = cameras if calls else small  # warming up takes no whole frame
        renderer.render("random", view, calls % len(cameras), float(len(cameras) // 2), frozenset({"rgb", "semantic"}))
        calls += 1

    return render


def encode_clip(bench: Bench) -> Callable[[], None]:
    """The frozen encoders over all frames of the scene."""
    scene = bench.scene
    return lambda: bench.model.encode(0, scene.rgb, scene.cameras, scene.space) and None


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
    except OSError:
        return peak(device)
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
