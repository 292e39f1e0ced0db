"""Output heads shared by the fields."""

from __future__ import annotations

from torch import nn


def semantic_head(in_channels: int, widths: tuple[int, ...], classes: int) -> nn.Sequential:
    """(N, in_channels) -> (N, K) logits through hidden layers of the given widths."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(in_channels, width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers, nn.Linear(in_channels, classes))
