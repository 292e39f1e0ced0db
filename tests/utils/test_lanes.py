"""Lanes: nothing but order outside a recording; forks and joins inside one."""

from contextlib import contextmanager

import pytest
import torch

from semflow.utils import lanes as module
from semflow.utils.lanes import Lanes


def test_outside_a_recording_there_is_one_lane():
    lanes = Lanes()
    with lanes.aside():
        pass
    lanes.join()
    assert lanes.streams == [] and lanes.busy == []


class Stream:
    """Writes down whom it waits for."""

    def __init__(self, name: str, seen: list):
        self.name, self.seen = name, seen

    def wait_stream(self, other: "Stream") -> None:
        self.seen.append((self.name, other.name))


def test_every_part_waits_for_what_was_before_and_is_waited_for(monkeypatch):
    seen, current, made = [], [], iter("abc")
    current.append(Stream("main", seen))

    @contextmanager
    def use(stream):
        current.append(stream)
        yield
        current.pop()

    monkeypatch.setattr(module, "recording", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: Stream(next(made), seen))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", use)
    lanes = Lanes()
    for _ in range(2):  # the second time in the same two lanes
        for _ in range(2):
            with lanes.aside():
                pass
        lanes.join()
    assert seen == [("a", "main"), ("b", "main"), ("main", "a"), ("main", "b")] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_recorded_lanes_compute_what_one_does():
    weights = torch.randn(64, 64, device="cuda", requires_grad=True)
    values, lanes = torch.randn(512, 64, device="cuda"), Lanes()
    weights.grad = torch.zeros_like(weights)

    def work() -> torch.Tensor:
        first = values @ weights
        parts = []
        for factor in (1.0, 2.0):
            with lanes.aside():
                parts.append((factor * first).sin() @ weights)
        parts.append(first.cos() @ weights)
        lanes.join()
        loss = sum(part.square().mean() for part in parts)
        loss.backward()
        return loss.detach()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        plain, gradient = work(), weights.grad.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            loss = work()
        for _ in range(3):
            weights.grad.zero_()
            graph.replay()
            torch.testing.assert_close(loss, plain)
            torch.testing.assert_close(weights.grad, gradient)
