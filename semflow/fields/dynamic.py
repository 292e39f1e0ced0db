"""The dynamic field: what moves (docs/method.md, "Fields")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semflow.fields.aggregation import FlowFeatures
from semflow.fields.chunks import samples_in_parts
from semflow.fields.heads import fog_head, semantic_head
from semflow.fields.linear import Linear
from semflow.fields.mlp import CodeBlock, ResidualBlock
from semflow.fields.solid import Solid
from semflow.records import FieldSamples

BLEND_START = -2.0  # the blending starts low: what is not known to move is static


class DynamicField(nn.Module):
    """Density, colour, blending and class logits of a point at a time, given its motion-aware features.

    Args:
        encoding: module (N, 4), scene -> (N, E) over field-space points and normalised time.
        width: trunk width D. code_blocks, blocks: blocks with the clip code, then plain residual blocks.
        code_channels: length of the clip code (0 = none).
        neighbours: the aggregator gives mean neighbour features.
        motion_channels: width of the aggregator's motion description (0 = none).
        classes: K.
    """

    def __init__(self, encoding: nn.Module, width: int, code_blocks: int, blocks: int, code_channels: int,
                 neighbours: bool, motion_channels: int, classes: int):
        super().__init__()
        self.encoding = encoding
        self.first = Linear(encoding.out_channels, width)
        self.code_blocks = nn.ModuleList(CodeBlock(width, code_channels) for _ in range(code_blocks))
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.fuse = Linear(width, width) if neighbours else None
        self.density = fog_head(width)
        self.color = Linear(width, 3)
        self.blend = Linear(width, 1)
        nn.init.constant_(self.blend.bias, BLEND_START)
        self.semantic = semantic_head(width + motion_channels, (width, width // 2), classes)

    def forward(self, coordinates: Tensor, code: Tensor, features: FlowFeatures, scene: int = 0) -> FieldSamples:
        """Samples of N points, each at a time of its own.

        Args:
            coordinates: (N, 4) field-space points and normalised times (see `at_time`). code: (Z,) clip code.
            features: what the aggregator read along the flow.
        """

        def query(coordinates: Tensor, *read: Tensor | None) -> FieldSamples:
            return self.query(coordinates, code, FlowFeatures(*read), scene)

        return samples_in_parts(
            self.encoding.part_points, query, coordinates, features.current, features.neighbours, features.motion)

    def query(self, coordinates: Tensor, code: Tensor, features: FlowFeatures, scene: int) -> FieldSamples:
        """Samples of a part of the points."""
        encoded = self.encoding(coordinates, scene)
        return FieldSamples(*self.samples_of(encoded, code, features.current, features.neighbours, features.motion))

    def samples_of(self, encoded: Tensor, code: Tensor, current: Tensor | None, neighbours: Tensor | None,
                   motion: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Density, colour, logits and blending at encoded coordinates (N, E): the network itself."""
        hidden = self.trunk(encoded, code, current, neighbours)
        return self.density(hidden)[:, 0], *self.heads(hidden, motion), torch.sigmoid(self.blend(hidden)[:, 0])

    def solid(self, coordinates: Tensor, code: Tensor, features: FlowFeatures, scene: int = 0) -> Solid:
        """Where something is, for N points; arguments as in `forward`. `appearance` tells what it looks like."""
        encoded = self.encoding(coordinates, scene)
        hidden = self.trunk(encoded, code, features.current, features.neighbours)
        return Solid(self.density(hidden)[:, 0], hidden, torch.sigmoid(self.blend(hidden)[:, 0]), features.motion)

    def trunk(self, encoded: Tensor, code: Tensor, current: Tensor | None, neighbours: Tensor | None) -> Tensor:
        """(N, D) what the heads read, at encoded coordinates (N, E)."""
        hidden = self.first(encoded)
        for block in self.code_blocks:
            hidden = block(torch.relu_(hidden), code)
        if self.fuse is not None:
            hidden = hidden + self.fuse(neighbours)
        for block in self.blocks:
            if current is not None:
                hidden = hidden + current
            hidden = block(hidden)
        return torch.relu_(hidden)

    def appearance(self, solid: Solid) -> tuple[Tensor, Tensor]:
        """Colour (N, 3) and class logits (N, K) of N points."""
        return self.heads(solid.hidden, solid.motion)

    def heads(self, hidden: Tensor, motion: Tensor | None) -> tuple[Tensor, Tensor]:
        """Colour and logits from the trunk (N, D) and the description of the motion."""
        described = hidden if motion is None else torch.cat([motion, hidden], dim=-1)
        return torch.sigmoid(self.color(hidden)), self.semantic(described)
