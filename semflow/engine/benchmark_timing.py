"""Times and memory: a piece of work beside a matrix product of the same moment.

Times are medians after a warm-up; each repeat is paired with a product of two 2048x2048 float32 matrices, and the
ratio ("products") is what can be compared between machines, and between moments of one busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

PRODUCT_SIZE = 2048
PROC = Path("/proc/self")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measurement:
    """Figures of one case.

    Attributes:
        seconds: median time of a step, a frame or an encoding. product_seconds: median time of the product beside it.
        products: median ratio of the two. peak_bytes: peak memory, of the process on the CPU and of torch on CUDA.
        runs: timed runs. setup_bytes: memory in use before the first run.
    """

    seconds: float
    product_seconds: float
    products: float
    peak_bytes: int
    setup_bytes: int
    runs: int


def time_work(work: Callable[[], None], repeats: int, device: torch.device, pieces: int = 1) -> Measurement:
    """Run `work` once without and `repeats` times with a clock, each beside a product.

    Args:
        pieces: of which the work consists, one after the other; the times are those of one of them.
    """
    product = Product(device)
    setup = reset_peak(device)
    product.seconds()
    work()
    pairs = [product.beside(lambda: seconds_of(work, device)) for _ in range(repeats)]
    times, products = zip(*pairs)
    return Measurement(
        seconds=statistics.median(times) / pieces, product_seconds=statistics.median(products),
        products=statistics.median(a / b for a, b in pairs) / pieces, peak_bytes=peak(device), setup_bytes=setup, runs=repeats)


class Product:
    """The product of two float32 matrices that times are compared with, in full precision whatever torch is set to."""

    def __init__(self, device: torch.device):
        self.device, self.matrices = device, torch.randn(2, PRODUCT_SIZE, PRODUCT_SIZE, device=device)

    def seconds(self) -> float:
        """Time of one product."""
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return seconds_of(lambda: self.matrices[0] @ self.matrices[1], self.device)
        finally:
            torch.set_float32_matmul_precision(precision)

    def beside(self, run: Callable[[], Result]) -> tuple[Result, float]:
        """What `run` gives, and the mean time of a product before and one after it."""
        before = self.seconds()
        result = run()
        return result, (before + self.seconds()) / 2


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of `work`, its kernels included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reset_peak(device: torch.device) -> int:
    """Forget the peak so far, where the system allows it; returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:  # the peak then includes the making of scene and networks
        pass
    return peak(device)


def peak(device: torch.device) -> int:
    """Peak memory in bytes: torch's on CUDA, else the resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (PROC / "status").exists():
        line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource  # systems without /proc; the unit is bytes there

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
