"""Sweeps: which points are measured, with which settings, how often, and what comes back."""

from dataclasses import replace

import pytest
from benchmark_toys import MEASURED, tiny

from semflow.engine import benchmark_timing
from semflow.engine.benchmark import measure_here
from semflow.engine.benchmark_sweep import at, default_sweeps, measure_sweeps, parse_sweeps
from semflow.utils.errors import ConfigError


def silent(what: str) -> None:
    pass


def test_words_are_axes_and_values():
    assert parse_sweeps(["rays=512,256,512", "scenes=1,3"], tiny()) == {"rays": (256, 512), "scenes": (1, 3)}
    assert parse_sweeps([], tiny()) == {}


@pytest.mark.parametrize("words, part", [
    (["speed=1"], "'speed' is none of rays, samples, frames, scenes, classes"),
    (["rays"], "write whole numbers"),
    (["rays=a"], "write whole numbers"),
    (["frames=2,4"], "frames must be at least 3"),
    (["rays=2", "rays=4"], "given twice"),
    (["samples=3"], "surface_samples = 2"),
])
def test_wrong_words_are_one_line(words, part):
    settings = tiny()
    stage = replace(settings.config.dynamic_stage, surface_samples=2)
    with pytest.raises(ConfigError, match=part):
        parse_sweeps(words, replace(settings, config=replace(settings.config, dynamic_stage=stage)))


def test_the_default_grid_lies_around_the_settings_and_within_their_limits():
    assert default_sweeps(tiny()) == {
        "rays": (2, 4, 8, 16), "samples": (2, 4, 8), "frames": (3, 6), "scenes": (1, 2, 4), "classes": (2, 4, 16)}
    for axis, values in default_sweeps(tiny()).items():
        assert all(at(tiny(), axis, value) for value in values)


def test_one_size_changes_at_a_time_and_shared_points_are_measured_once():
    asked = []

    def measure(settings, case):
        asked.append((settings, case))
        return replace(MEASURED, seconds=float(len(asked)))

    found = measure_sweeps(replace(tiny(), repeats=9), {"rays": (4, 8), "frames": (3, 5)}, measure, silent)
    sizes = [(s.config.dynamic_stage.rays, s.frames, s.config.static_stage.rays, s.repeats, case) for s, case in asked]
    assert sizes == [(4, 3, 8, 3, "dynamic"), (8, 3, 8, 3, "dynamic"), (8, 5, 8, 3, "dynamic")]
    seconds = {axis: [(point.value, point.measurement.seconds) for point in points] for axis, points in found.items()}
    assert seconds == {"rays": [(4, 1.0), (8, 2.0)], "frames": [(3, 2.0), (5, 3.0)]}


def test_a_point_that_fails_is_left_out():
    found = measure_sweeps(tiny(), {"rays": (4, 8)}, lambda settings, case: None if settings == tiny() else MEASURED, silent)
    assert [point.value for point in found["rays"]] == [4]


def test_every_axis_can_be_measured(monkeypatch):
    monkeypatch.setattr(benchmark_timing, "PRODUCT_SIZE", 64)
    sweeps = {"rays": (4,), "samples": (5,), "frames": (4,), "scenes": (2,), "classes": (3,)}
    found = measure_sweeps(tiny(), sweeps, measure_here, silent)
    assert set(found) == set(sweeps) and all(points[0].measurement.seconds > 0 for points in found.values())
