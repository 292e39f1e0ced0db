"""Runs a function in several processes that have joined as `torchrun` would join them, on the CPU."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing

from semflow.utils.device import set_up_torch
from semflow.utils.ranks import joined, rank


def run_ranks(work: Callable[[Path], object], folder: Path, count: int = 2) -> list:
    """What work(folder) returns on each of the ranks; an error on one of them is an error here.

    `work` is a function of a test module: the processes import it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work_in_rank, (count, port, work, folder), nprocs=count)
    return [torch.load(result_file(folder, number), weights_only=False) for number in range(count)]


def work_in_rank(number: int, count: int, port: int, work: Callable[[Path], object], folder: Path) -> None:
    """Body of one process."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    set_up_torch(threads=1)
    with joined():
        torch.save(work(folder), result_file(folder, rank()))


def result_file(folder: Path, number: int) -> Path:
    """Where a rank leaves what it found."""
    return folder / f"result_{number}.pt"
