"""The device of a run and the process-wide settings of torch."""

from __future__ import annotations

import os
import re

import torch
from torch import Tensor

from semflow.utils.errors import ConfigError
from semflow.utils.memory import keep_freed_memory
from semflow.utils.ranks import local_rank, local_ranks, ranks


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device that `name` stands for: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps.

    Of several ranks each gets a GPU of its own; `auto` is CUDA or the CPU then.

    Raises:
        ConfigError: for another name, or for a device that is not there.
    """
    if ranks() > 1:
        return _device_of_rank(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise ConfigError(f"device = {name!r}: choose auto, cpu, cuda, cuda:N or mps")
    device = torch.device(name)
    if device.type == "cuda":
        _require_cuda(name, device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device = mps: this torch has no Apple GPU; use --device auto or --device cpu")
    return device


def _device_of_rank(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: choose auto, cpu or cuda for {ranks()} processes")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    _require_cuda("cuda", 0)
    if local_ranks() > torch.cuda.device_count():
        raise ConfigError(f"device = {name}: {torch.cuda.device_count()} CUDA GPUs for {local_ranks()} processes; start as "
                          "many processes as GPUs by --nproc_per_node, or use --device cpu")
    device = torch.device("cuda", local_rank())
    torch.cuda.set_device(device)
    return device


def _require_cuda(name: str, index: int) -> None:
    if not torch.cuda.is_available():
        why = "sees no CUDA GPU" if torch.version.cuda else "was built without CUDA"
        raise ConfigError(f"device = {name}: this torch {why}; use --device auto or --device cpu")
    count = torch.cuda.device_count()
    if index >= count:
        raise ConfigError(f"device = {name}: there are {count} CUDA GPUs; use cuda:0 to cuda:{count - 1}")


def describe_device(device: torch.device) -> str:
    """The device in words, e.g. `cuda:0 (NVIDIA H100)` or `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


class OnTheWay:
    """Values that a GPU copies to the host behind the work queued so far; work queued later is not waited for."""

    def __init__(self, values: Tensor):
        self.values, self.arrival = values.detach(), None
        if values.is_cuda:
            self.values = torch.empty_like(self.values, device="cpu", pin_memory=True).copy_(self.values, non_blocking=True)
            self.arrival = torch.cuda.current_stream(values.device).record_event()

    def read(self) -> Tensor:
        """The values, once they are there."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return self.values


def set_up_torch(threads: int = 0, tf32: bool = False) -> None:
    """Process-wide settings: CPU threads (0 = torch's choice), denormals flushed to zero, TF32 matrix products or not,
    freed memory kept.

    Ranks on one machine share its cores: where torch would take one thread each, as `torchrun` tells it to, they take
    as many as there are cores for.

    Call it before the first computation: worker threads take over the flushing from the thread that starts
    them. Denormals appear in transmittances and make CPU steps several times slower.
    """
    if not threads and ranks() > 1 and torch.get_num_threads() == 1:
        threads = max(1, usable_cores() // local_ranks())
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
