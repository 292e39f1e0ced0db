"""Weight files that cannot be used end in one line that names the file and the remedy."""

import pickle

import pytest
import torch

from semflow.encoders.weights import load_weights, read_state_dict
from semflow.utils.errors import CheckpointError


class Trap:
    """Unpickling this creates a file: it must never be unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def refused(path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path, "do this instead")
    message = str(error.value)
    assert str(path) in message and message.endswith("do this instead") and "\n" not in message
    return message


def test_missing(tmp_path):
    assert "no such weight file" in refused(tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_broken(tmp_path, content):
    (tmp_path / "broken.pth").write_bytes(content)
    assert "broken.pth" in refused(tmp_path / "broken.pth")


def test_truncated(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    assert "cut.pth" in refused(tmp_path / "cut.pth")


def test_code_in_the_file_is_not_executed(tmp_path):
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    refused(tmp_path / "trap.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    refused(tmp_path / "raw.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [{}, {"state_dict": {"a": 1}}, {"state_dict": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_no_tensors(tmp_path, content):
    torch.save(content, tmp_path / "empty.pth")
    assert "no state dict" in refused(tmp_path / "empty.pth")


def test_half_precision_is_converted():
    layer = torch.nn.Linear(2, 1)
    state = {"weight": torch.tensor([[1.5, -2.0]], dtype=torch.float16), "bias": torch.tensor([0.25])}
    load_weights(layer, state, "half.pth")
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer(torch.tensor([2.0, 1.0])), torch.tensor([1.25]))
