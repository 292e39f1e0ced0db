"""Time and memory of the dynamic step against one size at a time, the others as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from semflow.config.schema import StageConfig
from semflow.engine.benchmark import BenchmarkSettings
from semflow.engine.benchmark_timing import Measurement
from semflow.utils.errors import ConfigError

LOWEST = {"rays": 2, "samples": 2, "frames": 3, "scenes": 1, "classes": 2}
HALF, ONE, TWO = Fraction(1, 2), Fraction(1), Fraction(2)
# the default grid, in shares of the settings
FACTORS = {
    "rays": (Fraction(1, 4), HALF, ONE, TWO), "samples": (HALF, ONE, TWO), "frames": (HALF, ONE, TWO),
    "scenes": (ONE, TWO, Fraction(4)), "classes": (HALF, ONE, Fraction(4)),
}
SWEEP_CASE, MOST_REPEATS = "dynamic", 3


@dataclass(frozen=True)
class SweepPoint:
    """The step at one value of the axis."""

    value: int
    measurement: Measurement


def parse_sweeps(words: Sequence[str], settings: BenchmarkSettings) -> dict[str, tuple[int, ...]]:
    """Axes and values of words like `rays=256,512,1024`.

    Raises:
        ConfigError: an axis is unknown or given twice, a value is no number or too small for the settings.
    """
    sweeps: dict[str, tuple[int, ...]] = {}
    for word in words:
        axis, _, listed = word.partition("=")
        if axis not in LOWEST:
            raise ConfigError(f"sweep = {word}: {axis!r} is none of {', '.join(LOWEST)}; write AXIS=N,N,…")
        if axis in sweeps:
            raise ConfigError(f"sweep = {word}: {axis} is given twice")
        try:
            values = tuple(sorted({int(value) for value in listed.split(",")}))
        except ValueError:
            raise ConfigError(f"sweep = {word}: write whole numbers, as in {axis}=256,512") from None
        if values[0] < LOWEST[axis]:
            raise ConfigError(f"sweep = {word}: {axis} must be at least {LOWEST[axis]}")
        at(settings, axis, values[0])
        sweeps[axis] = values
    return sweeps


def default_sweeps(settings: BenchmarkSettings) -> dict[str, tuple[int, ...]]:
    """The grid around the settings: a small one, for a CPU."""
    stage = settings.config.dynamic_stage
    lowest = LOWEST | {"samples": stage.surface_samples + 2}
    base = {
        "rays": stage.rays, "samples": stage.samples, "frames": settings.frames, "scenes": settings.scenes,
        "classes": settings.classes}
    return {axis: tuple(sorted({max(lowest[axis], int(base[axis] * factor)) for factor in factors}))
            for axis, factors in FACTORS.items()}


def at(settings: BenchmarkSettings, axis: str, value: int) -> BenchmarkSettings:
    """The settings with another value of one axis; rays and samples are those of the dynamic stage."""
    if axis not in ("rays", "samples"):
        return replace(settings, **{axis: value})
    stage: StageConfig = replace(settings.config.dynamic_stage, **{axis: value})
    return replace(settings, config=replace(settings.config, dynamic_stage=stage))


def measure_sweeps(
    settings: BenchmarkSettings, sweeps: Mapping[str, Sequence[int]],
    measure: Callable[[BenchmarkSettings, str], Measurement | None], say: Callable[[str], None],
) -> dict[str, list[SweepPoint]]:
    """Measure every point in a process of its own; a point that several axes share is measured once.

    Args:
        sweeps: axis -> values. measure: as `benchmark.measure`, or None: the point is left out.
        say: is told about each point.
    """
    settings = replace(settings, repeats=min(settings.repeats, MOST_REPEATS))
    known: dict[BenchmarkSettings, Measurement | None] = {}
    found: dict[str, list[SweepPoint]] = {}
    for axis, values in sweeps.items():
        for value in values:
            point = at(settings, axis, value)
            if point not in known:
                say(f"sweep {axis} = {value}")
                known[point] = measure(point, SWEEP_CASE)
            if known[point] is not None:
                found.setdefault(axis, []).append(SweepPoint(value, known[point]))
    return found
