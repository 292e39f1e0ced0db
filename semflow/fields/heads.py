"""Output heads shared by the fields."""

from __future__ import annotations

from torch import nn

from semflow.fields.linear import Linear

FOG_DENSITY = 0.1


def fog_head(width: int) -> Linear:
    """(N, width) -> (N, 1) raw density that starts as a thin uniform fog.

    A random start can be opaque right before the camera; what lies behind gets no gradient, and a ray may never
    recover from it.
    """
    head = Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, FOG_DENSITY)
    return head


def semantic_head(in_channels: int, widths: tuple[int, ...], classes: int) -> nn.Sequential:
    """(N, in_channels) -> (N, K) logits through hidden layers of the given widths."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [Linear(in_channels, width), nn.ReLU(inplace=True)]
        in_channels = width
    return nn.Sequential(*layers, Linear(in_channels, classes))
