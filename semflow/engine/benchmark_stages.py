"""Where the time of a training step goes: functions of the model are watched from outside, none is changed.

Every watched function belongs to a stage. Time is exclusive: while a function calls one of another stage, the time
counts there alone, so that the stages and `other` add up to the step.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

import torch

from semflow.data.sampler import RaySampler
from semflow.engine.benchmark_timing import Measurement, Product, synchronize, time_work
from semflow.fields.aggregation import FlowAggregator
from semflow.fields.attention import RayAttention, TrackAttention
from semflow.fields.dynamic import DynamicField
from semflow.fields.flow import FlowNetwork
from semflow.fields.static import StaticField
from semflow.losses import LossSet
from semflow.models.semantic_flow import SemanticFlow
from semflow.rendering import compositing
from semflow.rendering.renderer import Renderer

BACKWARD, OTHER = "backward", "other"

# stage -> (class or module, name) of what belongs to it
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "sampling": ((RaySampler, "of_frame"), (Renderer, "sample")),
    "map projection": ((SemanticFlow, "ready_maps"),),
    "flow": ((FlowNetwork, "tracks"), (FlowNetwork, "advect"), (FlowNetwork, "velocities")),
    "aggregation": ((FlowAggregator, "forward"),),
    "attention": ((TrackAttention, "forward"), (RayAttention, "forward")),
    "static field": ((SemanticFlow, "static_samples"), (StaticField, "forward")),
    "dynamic field": ((DynamicField, "forward"),),
    "compositing": tuple((compositing, name) for name in ("sample_distances", "composite", "composite_blended")),
    "losses": ((LossSet, "__call__"),),
    BACKWARD: ((torch.Tensor, "backward"),),
    "optimiser": (
        (torch.optim.Optimizer, "zero_grad"), (torch.nn.utils, "clip_grad_norm_"), (torch.optim.Adam, "step")),
}


@dataclass(frozen=True)
class StageTime:
    """Exclusive time of a stage in one step, the same in products, and how often its functions were called."""

    seconds: float
    products: float
    calls: int


@dataclass(frozen=True)
class StageTimes:
    """Stages of one step.

    Attributes:
        stages: stage -> time, `other` last; they add up to the watched step.
        watched_seconds, product_seconds: of that step, the median in products of all watched ones.
        step: steps that were not watched, in the same process.
    """

    stages: dict[str, StageTime]
    watched_seconds: float
    product_seconds: float
    step: Measurement


class StageClock:
    """Accounts the time between marks to the stage that is active.

    Args:
        read: gives a mark. between: seconds from one mark to another; called after the step.
    """

    def __init__(self, read: Callable[[], Any], between: Callable[[Any, Any], float]):
        self.read, self.between = read, between
        self.active: list[str] = []
        self.marks: list[tuple[str, Any]] = []  # the stage that ended here, and when
        self.calls: Counter[str] = Counter()
        self.thread: int | None = None  # that of the step, while one is running

    def time(self, step: Callable[[], None]) -> dict[str, float]:
        """Run a step; returns stage -> seconds of all stages and `other`."""
        self.calls.clear()
        self.thread, self.marks = threading.get_ident(), [(OTHER, self.read())]
        try:
            step()
            self.marks.append((OTHER, self.read()))
        finally:
            self.thread = None
        seconds = dict.fromkeys((*STAGES, OTHER), 0.0)
        for (_, start), (stage, end) in zip(self.marks, self.marks[1:]):
            seconds[stage] += self.between(start, end)
        return seconds

    @property
    def listening(self) -> bool:
        """A call counts: in the thread of a running step, and not in its backward pass, which stays whole."""
        return self.thread == threading.get_ident() and self.active[-1:] != [BACKWARD]

    def watch(self, stage: str, function: Callable) -> Callable:
        """`function` with its time accounted to `stage`."""

        @wraps(function)
        def watched(*args, **kwargs):
            if not self.listening:
                return function(*args, **kwargs)
            self.calls[stage] += 1
            self.switch()
            self.active.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self.active.pop()

        return watched

    def switch(self) -> None:
        """What went by since the last mark belongs to the active stage."""
        self.marks.append((self.active[-1] if self.active else OTHER, self.read()))


def clock_of(device: torch.device) -> StageClock:
    """A clock for steps on `device`: events in the stream on CUDA, so that nothing waits, else wall time."""
    if device.type == "cuda":
        return StageClock(lambda: recorded_event(device), event_seconds)

    def read() -> float:
        synchronize(device)
        return time.perf_counter()

    return StageClock(read, lambda start, end: end - start)


def recorded_event(device: torch.device) -> torch.cuda.Event:
    """An event in the current stream."""
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def event_seconds(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    """Seconds between two events; waits for the second."""
    end.synchronize()
    return start.elapsed_time(end) / 1000.0


@contextmanager
def watching(clock: StageClock) -> Iterator[None]:
    """The functions of all stages are watched inside the block, and themselves again after it."""
    replaced = []
    try:
        for stage, places in STAGES.items():
            for owner, name in places:
                original = getattr(owner, name)
                watched = clock.watch(stage, original)
                for holder in holders(owner, name, original):
                    replaced.append((holder, name, original))
                    setattr(holder, name, watched)
        yield
    finally:
        for holder, name, original in reversed(replaced):
            setattr(holder, name, original)


def holders(owner: Any, name: str, original: Callable) -> list[Any]:
    """`owner`, and for a function of a module every module of semflow that has imported it."""
    if not isinstance(owner, ModuleType):
        return [owner]
    modules = [module for key, module in sys.modules.items() if key.split(".")[0] == "semflow"]
    return [owner, *(m for m in modules if m is not owner and vars(m).get(name) is original)]


def time_stages(step: Callable[[], None], repeats: int, device: torch.device) -> StageTimes:
    """Time whole steps, then watched ones, each beside a product."""
    whole, product, clock = time_work(step, repeats, device), Product(device), clock_of(device)
    runs = []
    with watching(clock):
        for _ in range(repeats):
            seconds, beside = product.beside(lambda: clock.time(step))
            runs.append((sum(seconds.values()) / beside, seconds, beside, dict(clock.calls)))
    _, seconds, beside, calls = sorted(runs, key=lambda run: run[0])[(repeats - 1) // 2]
    stages = {name: StageTime(value, value / beside, calls.get(name, 0)) for name, value in seconds.items()}
    return StageTimes(stages, sum(seconds.values()), beside, whole)
