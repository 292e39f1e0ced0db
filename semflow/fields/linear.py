"""Linear layers over many points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SUM_PARTS = 256


class ManyRows(torch.autograd.Function):
    """`F.linear` of many rows on a GPU, whose gradient of the bias is a sum over all of them.

    A GPU sums a tall matrix slowly: only as many of its threads take part as there are columns. Here parts of the rows
    are summed side by side first.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, C) rows, (D, C) weight, (D,) bias -> (N, D)."""
        ctx.save_for_backward(rows, weight)
        return F.linear(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Those of a product and a sum."""
        rows, weight = ctx.saved_tensors
        of_rows = gradient @ weight if ctx.needs_input_grad[0] else None
        of_weight = gradient.T @ rows if ctx.needs_input_grad[1] else None
        return of_rows, of_weight, sum_of_rows(gradient) if ctx.needs_input_grad[2] else None


def sum_of_rows(values: Tensor) -> Tensor:
    """(D,) sum of the rows of values (N, D)."""
    if len(values) % SUM_PARTS:
        return values.sum(0)
    return values.unflatten(0, (SUM_PARTS, -1)).sum(1).sum(0)


def linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear`, by whatever way suits the device; (N, C) rows, (D, C) weight, (D,) bias -> (N, D)."""
    if rows.device.type == "cuda" and rows.dim() == 2 and not torch.is_autocast_enabled("cuda"):
        return ManyRows.apply(rows, weight, bias)
    return F.linear(rows, weight, bias)


class Linear(nn.Linear):
    """`nn.Linear` with a bias, for many points at once."""

    def forward(self, rows: Tensor) -> Tensor:
        """(N, C) -> (N, D)."""
        return linear(rows, self.weight, self.bias)
