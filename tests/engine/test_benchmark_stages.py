"""Stage times: exclusive accounting with a clock of known values, and the functions of a real step."""

import threading

import pytest
import torch
from benchmark_toys import tiny

from semflow.engine import benchmark_stages, benchmark_timing
from semflow.engine.benchmark import build_bench, step_of
from semflow.engine.benchmark_stages import STAGES, StageClock, clock_of, time_stages, watching
from semflow.rendering import compositing, renderer

CPU = torch.device("cpu")


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 0.0
        self.clock = StageClock(lambda: self.now, lambda start, end: end - start)

    def work(self, stage: str, before: float, inner=(), after: float = 0.0):
        """A watched function that takes `before`, calls `inner` and takes `after`."""

        def function():
            self.now += before
            for call in inner:
                call()
            self.now += after

        return self.clock.watch(stage, function)


def test_time_is_exclusive_and_adds_up():
    hand = Hand()
    flow = hand.work("flow", 2.0)
    attention = hand.work("attention", 3.0)
    aggregation = hand.work("aggregation", 10.0, [attention, flow, attention], 1.0)

    def step():
        hand.now += 0.5
        flow()
        aggregation()
        hand.now += 0.25

    found = hand.clock.time(step)
    expected = {"flow": 4.0, "attention": 6.0, "aggregation": 11.0, "other": 0.75}
    assert {name: value for name, value in found.items() if value} == expected
    assert sum(found.values()) == hand.now and set(found) == {*STAGES, "other"}
    assert dict(hand.clock.calls) == {"flow": 2, "attention": 2, "aggregation": 1}
    assert hand.clock.time(lambda: flow())["flow"] == 2.0  # nothing is left from the step before


def test_a_stage_that_calls_itself_is_counted_once():
    hand = Hand()
    velocity = hand.work("flow", 1.0)
    assert hand.clock.time(hand.work("flow", 2.0, [velocity, velocity]))["flow"] == 4.0


def test_backward_stays_whole():
    hand = Hand()
    again = hand.work("dynamic field", 5.0)  # recomputed inside
    found = hand.clock.time(hand.work("backward", 1.0, [again]))
    assert (found["backward"], found["dynamic field"]) == (6.0, 0.0)


def test_calls_of_other_threads_and_outside_a_step_do_not_count():
    hand = Hand()
    flow = hand.work("flow", 1.0)
    flow()

    def step():
        thread = threading.Thread(target=flow)
        thread.start()
        thread.join()

    found = hand.clock.time(step)
    assert (found["flow"], found["other"], hand.clock.calls["flow"]) == (0.0, 1.0, 0)


def test_an_error_leaves_the_clock_usable():
    hand = Hand()

    def fail():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        hand.clock.time(hand.clock.watch("flow", fail))
    assert hand.clock.time(hand.work("losses", 2.0)) == dict.fromkeys((*STAGES, "other"), 0.0) | {"losses": 2.0}


def test_functions_are_watched_wherever_they_are_imported_and_put_back():
    before = {(owner, name): getattr(owner, name) for places in STAGES.values() for owner, name in places}
    with watching(clock_of(CPU)):
        assert renderer.composite is compositing.composite
        for places in STAGES.values():
            for owner, name in places:
                assert getattr(owner, name).__wrapped__ is before[owner, name]
    for places in STAGES.values():
        for owner, name in places:
            assert getattr(owner, name) is before[owner, name]
    assert renderer.composite is before[compositing, "composite"]


@pytest.mark.parametrize("step, silent", [
    ("static", {"flow", "aggregation", "attention", "dynamic field"}), ("dynamic", set())])
def test_every_stage_of_a_step_is_found(monkeypatch, step, silent):
    monkeypatch.setattr(benchmark_timing, "PRODUCT_SIZE", 64)
    found = time_stages(step_of(build_bench(tiny(), CPU), step), 2, CPU)
    assert {name for name, stage in found.stages.items() if not stage.calls} == silent | {"other"}
    assert all((stage.seconds > 0) == (name not in silent) for name, stage in found.stages.items())
    assert found.watched_seconds == pytest.approx(sum(stage.seconds for stage in found.stages.values()))
    assert found.stages["other"].seconds < 0.5 * found.watched_seconds
    assert found.stages["backward"].calls == 1 and found.stages["sampling"].calls == 2
    assert found.stages["backward"].products == pytest.approx(found.stages["backward"].seconds / found.product_seconds)


def test_the_median_step_is_reported_whole(monkeypatch):
    monkeypatch.setattr(benchmark_timing, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(benchmark_stages, "clock_of", lambda device: hand.clock)
    # before and after each step; the first seven belong to the steps that are not watched
    products = iter([1.0] * 7 + [1.0, 1.0, 10.0, 10.0, 1.0, 1.0])
    monkeypatch.setattr(benchmark_timing.Product, "seconds", lambda self: next(products))
    hand, lengths = Hand(), iter([0.0] * 4 + [5.0, 30.0, 4.0])  # 5, 3 and 4 products

    def step():
        hand.work("losses", next(lengths))()
        hand.now += 1.0

    found = time_stages(step, 3, CPU)
    assert (found.stages["losses"].seconds, found.stages["other"].seconds, found.watched_seconds) == (4.0, 1.0, 5.0)
    assert (found.product_seconds, found.stages["losses"].products) == (1.0, 4.0)
