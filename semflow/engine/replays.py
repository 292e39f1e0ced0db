"""Work that a GPU is told once and then repeats: CUDA graphs over records of tensors.

A step of these models is thousands of small kernels, and Python takes longer to launch them than the GPU to run them. Recorded
as a graph they are launched together. A recording holds the addresses of its tensors: whatever changes from step to step
is copied to where the recording looks for it.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from semflow.utils.errors import SemflowError
from semflow.utils.memory import is_out_of_memory

FIRST_RUNS = 2  # the second may still compile what the first has shown to vary
MOSTLY_RECORDED = 40  # steps of random frames after which most kinds have been recorded

Work = Callable[..., Tensor]
Repeat = Callable[[], Tensor]


def taken_apart(value: Any, tensors: list[Tensor]) -> Hashable:
    """What a record consists of besides its tensors, which are added to a list in order.

    Args:
        value: tensors, records (dataclasses), lists, tuples, dictionaries and whatever may be a dictionary's key.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.shape, value.dtype, value.device
    if is_dataclass(value):
        return type(value), *(taken_apart(getattr(value, item.name), tensors) for item in fields(value))
    if isinstance(value, (list, tuple)):
        return type(value), *(taken_apart(item, tensors) for item in value)
    if isinstance(value, dict):
        return dict, *((key, taken_apart(item, tensors)) for key, item in value.items())
    return value


def put_together(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same record with other tensors, in the order of `taken_apart`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if is_dataclass(value):
        return type(value)(*(put_together(getattr(value, item.name), tensors) for item in fields(value)))
    if isinstance(value, (list, tuple)):
        return type(value)(put_together(item, tensors) for item in value)
    if isinstance(value, dict):
        return {key: put_together(item, tensors) for key, item in value.items()}
    return value


class Replays:
    """Repeats one piece of work on records that differ in their tensors alone.

    Work on the first records of their kind runs as it is, so that all it needs is set up; then it is recorded, and from
    then on repeated.

    Args:
        record: makes of work without arguments something that repeats it.
    """

    def __init__(self, record: Callable[[Repeat], Repeat]):
        self.record = record
        self.runs: Counter[Hashable] = Counter()
        self.known: dict[Hashable, tuple[list[Tensor], Repeat]] = {}
        self.places: dict[Hashable, Tensor] = {}  # where recordings look for tensors; kinds share them

    def run(self, work: Work, *arguments: Any) -> Tensor:
        """work(*arguments), a tensor of its own."""
        tensors: list[Tensor] = []
        kind = taken_apart(arguments, tensors)
        if self.runs[kind] < FIRST_RUNS:
            self.runs[kind] += 1
            return work(*arguments)
        if kind not in self.known:
            places = [self.place(number, tensor) for number, tensor in enumerate(tensors)]
            held = put_together(arguments, iter(places))
            self.known[kind] = places, self.record(lambda: work(*held))
        places, repeat = self.known[kind]
        torch._foreach_copy_(places, tensors)
        return repeat().clone()

    def place(self, number: int, tensor: Tensor) -> Tensor:
        """Where the tensor of that number in a record is copied to."""
        key = number, tensor.shape, tensor.dtype, tensor.device
        if key not in self.places:
            self.places[key] = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        return self.places[key]


class CudaGraphs:
    """Records work as CUDA graphs, on a stream of its own; they share their memory, for one runs at a time.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device):
        self.stream, self.pool = torch.cuda.Stream(device), None

    def __call__(self, work: Repeat) -> Repeat:
        """Record work, without doing it; to be called on the stream, after the work has run on it at least once.

        Raises:
            SemflowError: it cannot be recorded, for it waits for the GPU.
        """
        graph, collecting = torch.cuda.CUDAGraph(), gc.isenabled()
        gc.disable()  # what is freed while a graph is recorded would be freed in the graph
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                result = work()
        except RuntimeError as error:
            cause = first_cause(error)
            if is_out_of_memory(cause):
                raise cause
            reason = str(cause).strip().splitlines()[0]
            raise SemflowError(
                f"train.cuda_graphs: a step cannot be recorded ({reason}); go on with --no-train.cuda_graphs") from error
        finally:
            if collecting:
                gc.enable()
        self.pool = graph.pool()

        def repeat() -> Tensor:
            graph.replay()
            return result

        return repeat


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first: the end of a recording that has failed raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return error
