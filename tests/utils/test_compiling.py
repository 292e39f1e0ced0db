"""Compiled methods: what they replace, how they fall back, what is copied."""

import copy

import pytest
import torch
from torch import nn

from semflow.utils import compiling
from semflow.utils.compiling import Compiled


class Scale(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.factor.detach() * values


def without_compiler(monkeypatch, calls: list) -> None:
    """torch.compile gives a function that fails as it does without a compiler."""

    def compile(method, dynamic):
        def fail(*args):
            calls.append(dynamic)
            raise RuntimeError("No working C++ compiler found\nand a long explanation")

        return fail

    monkeypatch.setattr(compiling.torch, "compile", compile)


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(monkeypatch, capsys):
    calls, module = [], Scale(3.0)
    without_compiler(monkeypatch, calls)
    module.forward = Compiled(module.forward)
    assert [float(module(torch.tensor(2.0))) for _ in range(2)] == [6.0, 6.0] and calls == [True]
    assert capsys.readouterr().out == "train.compile: Scale.forward runs uncompiled (No working C++ compiler found)\n"


def test_wrong_arguments_are_the_error_that_they_are_without_compilation(monkeypatch):
    without_compiler(monkeypatch, [])
    with pytest.raises(TypeError):
        Compiled(Scale(1.0).forward)("text")


def test_a_copy_asks_its_own_weights_and_names_stay(monkeypatch):
    monkeypatch.setattr(compiling.torch, "compile", lambda method, dynamic: method)
    module = Scale(3.0)
    module.forward = Compiled(module.forward)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.factor.fill_(5.0)
    assert (float(module(torch.tensor(2.0))), float(other(torch.tensor(2.0)))) == (6.0, 10.0)
    assert list(other.state_dict()) == ["factor"]
