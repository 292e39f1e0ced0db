"""The static field: the background (docs/method.md, "Fields")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semflow.encoders.positional import FrequencyEncoding
from semflow.fields.chunks import samples_in_parts
from semflow.fields.heads import fog_head, semantic_head
from semflow.fields.linear import Linear
from semflow.fields.mlp import ResidualBlock
from semflow.fields.solid import Solid
from semflow.records import FieldSamples

VIEW_OCTAVES = 4
FEATURE_BLOCKS = 3


class StaticField(nn.Module):
    """Density, colour and class logits of a point of the background.

    Args:
        encoding: module (N, 3), scene -> (N, E) over field-space points.
        width: trunk width. blocks: residual blocks.
        channels: channels of the image features (0 = none).
        classes: K. view_dependent: colour sees the encoded view direction.
    """

    def __init__(self, encoding: nn.Module, width: int, blocks: int, channels: int, classes: int, view_dependent: bool):
        super().__init__()
        self.encoding = encoding
        self.first = Linear(encoding.out_channels, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.to_feature = nn.Linear(channels, width) if channels else None
        self.view = FrequencyEncoding(3, VIEW_OCTAVES) if view_dependent else None
        self.density = fog_head(width)
        view_channels = self.view.out_channels if view_dependent else 0
        self.color = nn.Sequential(Linear(width + view_channels, width // 2), nn.ReLU(), Linear(width // 2, 3))
        self.semantic = semantic_head(width, (width // 2,), classes)

    def project_maps(self, maps: Tensor) -> Tensor:
        """(T, h, w, C) image features -> (T, h, w, width), projected once instead of at every point."""
        return self.to_feature(maps)

    def forward(self, points: Tensor, view_dirs: Tensor, feature: Tensor | None, scene: int = 0) -> FieldSamples:
        """Samples of N points.

        Args:
            points: (N, 3) field-space points. view_dirs: (N, 3) unit world directions.
            feature: (N, width) projected image feature, added before the first three blocks, or None.
        """
        return samples_in_parts(
            self.encoding.part_points, lambda *part: self.query(*part, scene), points, view_dirs, feature)

    def query(self, points: Tensor, view_dirs: Tensor, feature: Tensor | None, scene: int) -> FieldSamples:
        """Samples of a part of the points."""
        return FieldSamples(*self.samples_of(self.encoding(points, scene), view_dirs, feature))

    def samples_of(self, encoded: Tensor, view_dirs: Tensor, feature: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Density, colour and logits at encoded points (N, E): the network itself."""
        hidden = self.trunk(encoded, feature)
        return self.density(hidden)[:, 0], *self.heads(hidden, view_dirs)

    def solid(self, points: Tensor, feature: Tensor | None, scene: int = 0) -> Solid:
        """Where something is, for N points; arguments as in `forward`. `appearance` tells what it looks like."""
        hidden = self.trunk(self.encoding(points, scene), feature)
        return Solid(self.density(hidden)[:, 0], hidden)

    def trunk(self, encoded: Tensor, feature: Tensor | None) -> Tensor:
        """(N, width) what the heads read, at encoded points (N, E)."""
        hidden = self.first(encoded)
        for number, block in enumerate(self.blocks):
            if feature is not None and number < FEATURE_BLOCKS:
                hidden = hidden + feature
            hidden = block(hidden)
        return torch.relu_(hidden)

    def appearance(self, solid: Solid, view_dirs: Tensor) -> tuple[Tensor, Tensor]:
        """Colour (N, 3) and class logits (N, K) of N points seen along view_dirs (N, 3)."""
        return self.heads(solid.hidden, view_dirs)

    def heads(self, hidden: Tensor, view_dirs: Tensor) -> tuple[Tensor, Tensor]:
        """Colour and logits from the trunk (N, width)."""
        seen = hidden if self.view is None else torch.cat([hidden, self.view(view_dirs)], dim=-1)
        return torch.sigmoid(self.color(seen)), self.semantic(hidden)
