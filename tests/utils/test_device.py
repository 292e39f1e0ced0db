"""The choice of the device and torch's process-wide settings."""

import pytest
import torch

from semflow.utils.device import describe_device, resolve_device, set_up_torch
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
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
