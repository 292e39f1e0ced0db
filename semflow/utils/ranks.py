"""Several processes that train, evaluate or render one run together, as `torchrun` starts them.

The processes are numbered by their rank. Ray i of a batch belongs to rank i modulo the number of ranks, so that any two
kinds of rays that follow each other in a batch are spread evenly. Values and gradients are combined as *means* over
the ranks: what every rank computes alike, like a regulariser of the weights, counts once. In a process alone every
function here returns what it was given.

Exchanges have to happen in the same order on all ranks: what decides about one must be known to all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from semflow.utils.errors import OtherRankFailed, RankError

PATIENCE = timedelta(minutes=30)  # rank 0 may make a scene, write a checkpoint or render a panel meanwhile
FAILURES = "semflow_failures"
T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that `torchrun` started with this one, for as long as the block runs.

    Other ranks than 0 print nothing. The first rank that fails keeps its error, the others raise OtherRankFailed.
    """
    # Optimisers import it, and it keeps the processes' group if there is one by then: the group's threads would outlive
    # the interpreter and abort the process at its end.
    import torch._dynamo  # noqa: F401

    store, number, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", rank=number, world_size=count,
                            store=dist.PrefixStore("semflow", store), timeout=PATIENCE)
    with ExitStack() as stack:
        if number:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        try:
            yield
        except Exception as error:
            if _failed_before(store):
                raise OtherRankFailed from error
            raise
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0; only rank 0 writes."""
    return dist.get_rank() if _joined() else 0


def ranks() -> int:
    """Number of processes of the run."""
    return dist.get_world_size() if _joined() else 1


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", rank()))


def local_ranks() -> int:
    """Number of processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", ranks()))


def own_rows(first: int = 0) -> slice:
    """Which of the rows of a whole batch from `first` on belong to this rank, counted from there."""
    return slice((rank() - first) % ranks(), None, ranks())


def own_part(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of a list: a run of it, the parts in the order of the ranks."""
    start, end = (len(items) * place // ranks() for place in (rank(), rank() + 1))
    return items[start:end]


def gather_parts(part: list[T]) -> list[T]:
    """The lists of all ranks, one after the other; what they hold must lie on the CPU."""
    if ranks() == 1:
        return part
    parts: list[list[T]] = [[] for _ in range(ranks())]
    _exchange(dist.all_gather_object, parts, part)
    return [item for found in parts for item in found]


def from_first_rank(work: Callable[[], T]) -> T:
    """Do something on rank 0 alone; the others wait and get its result, or raise its error too."""
    if ranks() == 1:
        return work()
    found: list[Any] = [None, None]
    if rank() == 0:
        try:
            found[0] = work()
        except Exception as error:
            found[1] = error
    _exchange(dist.broadcast_object_list, found, src=0, device=torch.device("cpu"))
    if found[1] is not None:
        raise found[1]
    return found[0]


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; all ranks meet here."""
    if ranks() == 1:
        return flag
    raised = torch.tensor(int(flag))  # on the CPU: no GPU is waited for
    _exchange(dist.all_reduce, raised, op=dist.ReduceOp.MAX)
    return bool(raised)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum of a tensor over the ranks, without gradients."""
    if ranks() == 1:
        return values
    total = values.detach().clone()
    _exchange(dist.all_reduce, total)
    return total


def gather_rows(own: Tensor, total: int) -> Tensor:
    """The `total` values of a whole batch from every rank's own (R,).

    All ranks must compute the same from the result: the gradient that the others would send back is then this
    rank's own, times their number, and nothing is exchanged backward.
    """
    return own if ranks() == 1 else _GatherRows.apply(own, total)


def average_gradients(parameters: Sequence[Tensor], values: Tensor) -> Tensor:
    """Replace gradients by their means over the ranks, and get the means of further values, in one exchange.

    All ranks compute the same graph, on rays of their own: the same parameters have a gradient everywhere.
    """
    if ranks() == 1:
        return values
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([values.flatten(), *(parameter.grad.flatten() for parameter in trained)])
    _exchange(dist.all_reduce, flat)
    means, *gradients = flat.split([values.numel(), *(parameter.numel() for parameter in trained)])
    for parameter, part in zip(trained, gradients):
        torch.div(part.view_as(parameter), ranks(), out=parameter.grad)  # in its own order of memory, as a fused Adam needs
    return means.view_as(values) / ranks()


class _GatherRows(torch.autograd.Function):
    """See `gather_rows`."""

    @staticmethod
    def forward(ctx, own: Tensor, total: int) -> Tensor:
        padded = F.pad(own, (0, -(-total // ranks()) - len(own)))
        parts = [torch.empty_like(padded) for _ in range(ranks())]
        _exchange(dist.all_gather, parts, padded)
        return torch.stack(parts, dim=1).flatten()[:total]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[own_rows()] * ranks(), None


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _exchange(operation: Callable, *args, **options) -> None:
    try:
        operation(*args, **options)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RankError(f"another process of this run has ended or cannot be reached ({reason}); "
                        "the same command goes on from the last checkpoint") from error


def _failed_before(store: dist.Store) -> bool:
    """Whether another rank failed before this one; the first to ask is told no."""
    try:
        return store.add(FAILURES, 1) > 1
    except RuntimeError:  # the process that kept the count has ended
        return False
