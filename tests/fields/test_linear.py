"""The linear layer of a GPU is the one of torch, with another way to sum."""

import pytest
import torch
import torch.nn.functional as F

from semflow.fields.linear import SUM_PARTS, Linear, ManyRows, sum_of_rows


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


@pytest.mark.parametrize("rows", [1, SUM_PARTS - 1, SUM_PARTS, 3 * SUM_PARTS])
def test_values_and_gradients_are_those_of_torch(rows):
    given = numbers(rows, 5), numbers(4, 5), numbers(4)
    outputs, gradients = [], []
    for function in (F.linear, ManyRows.apply):
        outputs.append(function(*given))
        gradients.append(torch.autograd.grad(outputs[-1].sin().sum(), given))
    assert torch.equal(*outputs)
    for expected, found in zip(*gradients):
        torch.testing.assert_close(found, expected)


def test_only_what_is_asked_for_is_derived():
    rows, weight, bias = numbers(3, 5).detach(), numbers(4, 5), numbers(4).detach()
    ManyRows.apply(rows, weight, bias).sum().backward()
    assert weight.grad is not None and rows.grad is None and bias.grad is None


@pytest.mark.parametrize("rows", [0, 7, SUM_PARTS, 5 * SUM_PARTS])
def test_the_sum_of_rows(rows):
    values = numbers(rows, 3)
    torch.testing.assert_close(sum_of_rows(values), values.sum(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_layer_on_a_gpu_is_the_layer_on_the_cpu():
    layer = Linear(5, 4).double()
    rows = numbers(2 * SUM_PARTS, 5).detach()
    results = []
    for device in ("cpu", "cuda"):
        layer = layer.to(device)
        layer.zero_grad(set_to_none=True)
        output = layer(rows.to(device))
        output.sin().sum().backward()
        results.append([output.cpu(), layer.weight.grad.cpu(), layer.bias.grad.cpu()])
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected)
