"""Repeated work: what a recording is told again and what it holds on to. The recordings here run the work itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from semflow.engine.replays import CudaGraphs, Replays, first_cause, put_together, taken_apart
from semflow.utils.errors import SemflowError


@dataclass(frozen=True)
class Inner:
    """A record in a record."""

    values: torch.Tensor
    kind: str


@dataclass(frozen=True)
class Outer:
    """All that a record may hold."""

    inner: Inner
    named: dict[int, torch.Tensor | None]
    several: tuple
    count: int


def outer(factor: float = 1.0, **changes) -> Outer:
    given = {"inner": Inner(factor * torch.ones(2), "a"), "named": {-1: factor * torch.ones(3), 1: None},
             "several": (factor * torch.ones(1), "b"), "count": 4}
    return Outer(**(given | changes))


def test_a_record_is_its_tensors_and_the_rest():
    tensors: list[torch.Tensor] = []
    kind = taken_apart(outer(), tensors)
    assert [len(tensor) for tensor in tensors] == [2, 3, 1]
    other = put_together(outer(), iter([3 * tensor for tensor in tensors]))
    assert torch.equal(other.inner.values, torch.full((2,), 3.0)) and other.named[1] is None and other.count == 4
    assert torch.equal(other.several[0], torch.full((1,), 3.0)) and other.inner.kind == "a" and other.several[1] == "b"
    assert taken_apart(outer(2.0), []) == kind  # tensors differ, the kind does not


@pytest.mark.parametrize("changes", [
    {"count": 5}, {"inner": Inner(torch.ones(2), "c")}, {"inner": Inner(torch.ones(3), "a")}, {"named": {-1: torch.ones(3)}},
    {"inner": Inner(torch.ones(2, dtype=torch.float64), "a")}, {"several": (torch.ones(1), "c")},
])
def test_whatever_is_no_value_of_a_tensor_makes_another_kind(changes):
    assert taken_apart(outer(), []) != taken_apart(outer(**changes), [])


def total(record: Outer) -> torch.Tensor:
    return record.inner.values.sum() * record.count + record.named[-1].sum()


def test_work_runs_twice_is_recorded_and_repeated_on_new_values():
    recorded = []
    replays = Replays(lambda work: recorded.append(work) or work)
    found = []
    for factor in (1.0, 2.0, 3.0, 4.0, 5.0):
        found.append((replays.run(total, outer(factor)), len(recorded)))
    assert [(float(value), count) for value, count in found] == [(11.0, 0), (22.0, 0), (33.0, 1), (44.0, 1), (55.0, 1)]
    assert float(replays.run(total, outer(1.0, count=5))) == 13.0 and len(recorded) == 1  # a kind of its own


def test_kinds_share_the_places_of_tensors_that_are_alike():
    replays, seen = Replays(lambda work: work), []

    def work(record: Outer) -> torch.Tensor:
        seen.append(record)
        return total(record)

    results = [float(replays.run(work, outer(factor, count=count))) for count in (4, 5) for factor in (1.0, 2.0, 3.0)]
    assert results == [11.0, 22.0, 33.0, 13.0, 26.0, 39.0]
    assert seen[2].count == 4 and seen[5].count == 5 and seen[2].inner.values is seen[5].inner.values


def test_the_first_of_several_errors_is_the_cause():
    try:
        try:
            raise RuntimeError("what went wrong")
        finally:
            raise RuntimeError("the end of the recording")
    except RuntimeError as error:
        assert str(first_cause(error)) == "what went wrong"


def test_a_result_is_not_overwritten_by_the_next():
    place = torch.zeros(1)
    replays = Replays(lambda work: lambda: place.copy_(work()))
    results = [replays.run(total, outer(factor)) for factor in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert [float(result) for result in results] == [11.0, 22.0, 33.0, 44.0, 55.0]


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@cuda
def test_graphs_add_gradients_as_the_work_itself():
    weights = torch.ones(4, device="cuda", requires_grad=True)
    graphs = CudaGraphs(torch.device("cuda"))

    def work(values: torch.Tensor) -> torch.Tensor:
        loss = (weights * values).square().sum()
        loss.backward()
        return loss.detach()

    replays, losses = Replays(graphs), []
    with torch.cuda.stream(graphs.stream):
        for factor in (1.0, 2.0, 3.0, 4.0):
            losses.append(float(replays.run(work, torch.full((4,), factor, device="cuda"))))
    torch.cuda.synchronize()
    assert losses == [4.0, 16.0, 36.0, 64.0] and weights.grad.tolist() == [60.0] * 4


@cuda
def test_what_waits_for_the_gpu_is_one_line_with_the_remedy():
    graphs = CudaGraphs(torch.device("cuda"))
    with torch.cuda.stream(graphs.stream), pytest.raises(SemflowError, match="not permitted.*--no-train.cuda_graphs"):
        graphs(lambda: torch.ones(3, device="cuda").sum().cpu())
