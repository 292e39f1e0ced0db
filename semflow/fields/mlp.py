"""The building blocks of the fields. What no backward pass needs is overwritten: less memory to fill, more of it in caches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semflow.fields.linear import Linear, linear


class ResidualBlock(nn.Module):
    """h + W2 relu(W1 relu(h)), the second layer starting at zero so that the block starts as identity."""

    def __init__(self, width: int):
        super().__init__()
        self.first = Linear(width, width)
        self.second = Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, hidden: Tensor, rectified: bool = False) -> Tensor:
        """(N, width) -> (N, width); `rectified`: the input has no negative values, its relu would be a copy."""
        positive = hidden if rectified else torch.relu(hidden)
        return self.second(torch.relu_(self.first(positive))).add_(hidden)


class CodeBlock(nn.Module):
    """FC on [hidden, code], then a residual block.

    The code is one vector per scene: its half of the FC is computed once and added as a bias, not per point.
    """

    def __init__(self, width: int, code_channels: int):
        super().__init__()
        self.from_hidden = Linear(width, width)
        self.from_code = nn.Linear(code_channels, width, bias=False) if code_channels else None
        self.block = ResidualBlock(width)

    def forward(self, hidden: Tensor, code: Tensor) -> Tensor:
        """(N, width) hidden and (Z,) code -> (N, width)."""
        bias = self.from_hidden.bias
        if self.from_code is not None:
            bias = bias + self.from_code(code)
        return self.block(torch.relu_(linear(hidden, self.from_hidden.weight, bias)), rectified=True)
