"""Free memory as the system and the control group state it, and errors that mean a lack of it."""

import ctypes
import math
import platform
from types import SimpleNamespace

import pytest
import torch

from semflow.utils.errors import SemflowError
from semflow.utils.memory import (
    TRIM_THRESHOLD,
    free_memory,
    group_left,
    is_out_of_memory,
    keep_freed_memory,
    shortage_as_error,
)

CPU = torch.device("cpu")


def write(root, files: dict[str, str]):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n"}


def test_the_system_says_what_is_available(tmp_path):
    assert free_memory(CPU, write(tmp_path, MEMINFO)) == 5000 * 1024
    assert math.isinf(group_left(tmp_path))


@pytest.mark.parametrize(("folder", "limit", "used", "reclaimable"), [
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")])
def test_the_limit_of_the_control_group_counts_and_its_file_cache_does_not(tmp_path, folder, limit, used, reclaimable):
    group = {f"{folder}/{limit}": "1000000\n", f"{folder}/{used}": "700000\n", f"{folder}/memory.stat": f"x 1\n{reclaimable} 200000\n"}
    assert free_memory(CPU, write(tmp_path, MEMINFO | group)) == 500000


def test_a_group_without_a_limit_and_a_system_that_says_nothing(tmp_path):
    write(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"})
    assert math.isinf(group_left(tmp_path))
    assert free_memory(CPU, tmp_path) > 2**20
    assert 2**20 < free_memory(CPU) < 2**50


@pytest.mark.parametrize(("error", "expected"), [
    (MemoryError(), True), (torch.OutOfMemoryError("x"), True), (RuntimeError("DefaultCPUAllocator: not enough memory: …"), True),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True), (RuntimeError("shapes"), False),
    (ValueError("out of memory"), False)])
def test_which_errors_mean_a_lack_of_memory(error, expected):
    assert is_out_of_memory(error) == expected
    with pytest.raises(SemflowError if expected else type(error), match="take less" if expected else None):
        with shortage_as_error("take less"):
            raise error


def pages_of_a_block(size: int) -> int:
    """Pages that the system maps while the C library hands out a block, it is filled, and given back."""
    libc, resource = ctypes.CDLL(None), pytest.importorskip("resource")
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_used_again_without_asking_the_system():
    size = min(keep_freed_memory(), 100_000_000)
    assert size >= 2**25
    pages_of_a_block(size)
    assert pages_of_a_block(size) < 1000  # of 24,000 for 100 MB


def test_a_c_library_that_keeps_little_or_has_no_setting(monkeypatch):
    asked = []

    def old(parameter, size):
        asked.append((parameter, size))
        return size <= 2**25 or parameter == TRIM_THRESHOLD

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=old))
    assert keep_freed_memory() == 2**25 and [size for _, size in asked] == [2**31 - 1, 2**25, 2**31 - 1]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert keep_freed_memory() == 0
