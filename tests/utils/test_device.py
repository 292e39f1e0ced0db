"""The choice of the device and torch's process-wide settings."""

import pytest
import torch

from semflow.utils import device as module
from semflow.utils.device import describe_device, resolve_device, set_up_torch, usable_cores
from semflow.utils.errors import ConfigError


@pytest.fixture
def machine(monkeypatch):
    def machine(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return machine


@pytest.mark.parametrize("cuda, mps, expected", [
    (0, False, "cpu"), (1, False, "cuda"), (0, True, "mps"), (2, True, "cuda"),
])
def test_auto_prefers_cuda_then_mps(machine, cuda, mps, expected):
    machine(cuda, mps)
    assert resolve_device("auto") == torch.device(expected)
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name, part", [
    ("cuda", "--device cpu"), ("cuda:0", "cuda:0"), ("mps", "mps"), ("gpu", "choose auto"), ("", "choose auto"),
    ("cuda:x", "choose auto"), ("meta", "choose auto"),
])
def test_what_is_not_there_is_refused(machine, name, part):
    machine()
    with pytest.raises(ConfigError) as caught:
        resolve_device(name)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_gpu_beyond_the_last_is_refused(machine):
    machine(cuda=2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="there are 2 CUDA GPUs"):
        resolve_device("cuda:2")


def test_set_up_flushes_denormals_and_sets_threads():
    threads = torch.get_num_threads()
    try:
        set_up_torch(threads=1)
        assert torch.get_num_threads() == 1 and "1 threads" in describe_device(torch.device("cpu"))
        if torch.set_flush_denormal(True):  # False where the processor cannot
            assert (torch.tensor([1e-38]) * 0.1).item() == 0.0
        for tf32, expected in ((True, "high"), (False, "highest")):
            set_up_torch(threads=1, tf32=tf32)
            assert torch.get_float32_matmul_precision() == expected
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is local rank 1 of two; the GPUs that were made current are collected."""
    for name, value in (("ranks", 2), ("local_ranks", 2), ("local_rank", 1)):
        monkeypatch.setattr(module, name, lambda value=value: value)
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize("name, cuda, mps, expected", [
    ("auto", 2, False, "cuda:1"), ("cuda", 3, False, "cuda:1"), ("auto", 0, True, "cpu"), ("cpu", 2, False, "cpu"),
])
def test_each_rank_has_a_gpu_of_its_own_or_the_cpu(machine, second_of_two, name, cuda, mps, expected):
    machine(cuda, mps)
    assert resolve_device(name) == torch.device(expected)
    assert second_of_two == ([torch.device(expected)] if expected.startswith("cuda") else [])


@pytest.mark.parametrize("name, cuda, part", [
    ("cuda:0", 2, "choose auto, cpu or cuda"), ("mps", 0, "choose auto"), ("cuda", 1, "1 CUDA GPUs for 2"),
    ("cuda", 0, "CUDA"),
])
def test_ranks_share_no_gpu(machine, second_of_two, name, cuda, part):
    machine(cuda, mps=True)
    with pytest.raises(ConfigError, match=part):
        resolve_device(name)


def test_ranks_share_the_cores_where_torchrun_leaves_them_one_thread(monkeypatch, second_of_two):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(module, "usable_cores", lambda: 9)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    set_up_torch()
    set_up_torch(threads=2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # OMP_NUM_THREADS was set
    set_up_torch()
    assert asked == [4, 2] and usable_cores() >= 1
