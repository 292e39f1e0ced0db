"""How much memory is free, and how it shows that it was not enough."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from semflow.utils.errors import SemflowError

SYSTEM = Path("/")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
KEPT_BYTES = (2**31 - 1, 2**25)  # all that its int can say; the most that an older glibc accepts
SHORTAGES = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def keep_freed_memory() -> int:
    """Let the C library keep the blocks that are freed, for the next step (glibc alone).

    By default it hands large ones back to the system after every use and gets them again page by page, each cleared and
    mapped anew. The process then holds on to what it once needed: other processes get it back when it ends.

    Returns:
        Bytes up to which blocks are kept; 0 where the library has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    for size in KEPT_BYTES if mallopt is not None else ():
        if mallopt(MMAP_THRESHOLD, size):  # the other alone would fix this one at its small start
            mallopt(TRIM_THRESHOLD, KEPT_BYTES[0])
            return size
    return 0


def free_memory(device: torch.device, root: Path = SYSTEM) -> int:
    """Bytes that this process can still take on a device; on a CPU also within the limit of its control group.

    On a CPU that is a lower bound: what the C library keeps (`keep_freed_memory`) can be taken as well.

    Args:
        root: where /proc and /sys are found.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(available(root), group_left(root))


def available(root: Path) -> int:
    """Bytes that the system can give without swapping; half of what there is where the system does not say."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def group_left(root: Path) -> float:
    """Bytes left below the memory limit of the control group, infinite without one."""
    second, first = root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"
    names = (second, "memory.max", "memory.current", "inactive_file"), (
        first, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for folder, limit, used, reclaimable in names:
        try:
            highest = (folder / limit).read_text().strip()
            if highest == "max":
                continue
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return int(highest) - int((folder / used).read_text()) + int(stat.get(reclaimable, 0))
        except (OSError, ValueError):
            continue
    return float("inf")


def is_out_of_memory(error: BaseException) -> bool:
    """The error says that memory did not suffice, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SHORTAGES)


@contextmanager
def shortage_as_error(message: str) -> Iterator[None]:
    """Turns a lack of memory in its block into a SemflowError with this message."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise SemflowError(message) from error
