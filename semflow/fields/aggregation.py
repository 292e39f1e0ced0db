"""Flow feature aggregation: what the video shows at the places of a flow track (METHOD sections 4 and 5).

The aggregators share one signature and differ only in what they make of the features read along the track; swapping
the aggregator is how the point-feature and mean-feature baselines are built. A linear layer of a bilinear read equals
the read of the projected map, so every frame's map is projected once and narrow features are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semflow.encoders.positional import FrequencyEncoding
from semflow.encoders.sampling import read_map
from semflow.fields.attention import RayAttention, TrackAttention
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space
from semflow.records import FlowTrack

DISPLACEMENT_OCTAVES = 4


@dataclass(frozen=True)
class FlowFeatures:
    """Motion-aware features of N points.

    Attributes:
        current: (N, D) feature of the current frame, for the trunk of the dynamic field; None without an encoder.
        neighbours: (N, D) mean feature of the valid neighbours (zero where there is none); None without them.
        motion: (N, M) description of the motion for the semantic head; None where the aggregator gives none.
    """

    current: Tensor | None = None
    neighbours: Tensor | None = None
    motion: Tensor | None = None


@dataclass(frozen=True)
class TrackPixels:
    """Where a track is seen: offset -> (N, 2) pixels, and offset -> (N,) bool (in front and inside the image)."""

    uv: dict[int, Tensor]
    visible: dict[int, Tensor]


def locate(track: FlowTrack, cameras: Cameras, space: Space) -> TrackPixels:
    """Project every position of a track into the camera of its own frame, as a world point."""
    uv, visible = {}, {}
    for offset, points in track.positions.items():
        uv[offset], in_front = cameras.project(space.to_world(points), track.frame + offset)
        visible[offset] = in_front & cameras.inside(uv[offset].detach())
    return TrackPixels(uv, visible)


class FlowAggregator(nn.Module):
    """Reads the feature maps along a track; subclasses describe the motion.

    Args:
        channels: channels C of the encoder's maps (0 = no encoder: nothing is read).
        width: width D of the trunk features.
        reach: farthest neighbour that is read, in frames (0 = the current frame alone).
    """

    token_width = 0
    out_channels = 0

    def __init__(self, channels: int, width: int, reach: int):
        super().__init__()
        self.channels, self.width = channels, width
        self.reach = reach if channels else 0
        self.use_neighbours = self.reach > 0
        self.to_current = nn.Linear(channels, width) if channels else None
        self.to_neighbours = nn.Linear(channels, width) if self.use_neighbours else None

    def projections(self) -> list[nn.Linear]:
        """The layers applied to the maps before they are read, in the order of the projected channels."""
        return [layer for layer in (self.to_current, self.to_neighbours) if layer is not None]

    def project_maps(self, maps: Tensor) -> Tensor:
        """(T, h, w, C) frozen or trained maps -> (T, P, h, w) projected maps."""
        layers = self.projections()
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        return torch.nn.functional.linear(maps, weight, bias).permute(0, 3, 1, 2)

    def forward(self, track: FlowTrack, maps: dict[int, Tensor], cameras: Cameras, space: Space, rays: int) -> FlowFeatures:
        """Features of the N points of a track.

        Args:
            track: positions of N points.
            maps: frame -> (P, h, w) projected maps, for every frame of the track.
            cameras, space: the scene's geometry.
            rays: number of rays R that the N points belong to.
        """
        if not self.channels:
            return FlowFeatures()
        within = {offset: points for offset, points in track.positions.items() if abs(offset) <= self.reach}
        track = FlowTrack(track.frame, within)
        pixels = locate(track, cameras, space)
        reads = {
            offset: read_map(maps[track.frame + offset], uv, cameras.height, cameras.width)
            for offset, uv in pixels.uv.items()
        }
        current, neighbours = self.trunk_features(reads, pixels)
        return FlowFeatures(current, neighbours, self.describe(track, reads, pixels, rays))

    def trunk_features(self, reads: dict[int, Tensor], pixels: TrackPixels) -> tuple[Tensor, Tensor | None]:
        """Current (N, D) and mean neighbour (N, D) features; invisible positions count as zero."""
        current = reads[0][:, : self.width] * pixels.visible[0][:, None]
        if not self.use_neighbours:
            return current, None
        total, count = torch.zeros_like(current), torch.zeros_like(current[:, :1])
        for offset, read in reads.items():
            if offset:
                visible = pixels.visible[offset][:, None]
                total = total + read[:, self.width : 2 * self.width] * visible
                count = count + visible
        return current, total / count.clamp(min=1)

    def describe(self, track: FlowTrack, reads: dict[int, Tensor], pixels: TrackPixels, rays: int) -> Tensor | None:
        """(N, out_channels) description of the motion, or None."""
        return None


class PointAggregator(FlowAggregator):
    """The current frame's feature alone (MonoNeRF's point features): no flow."""

    def __init__(self, channels: int, width: int):
        super().__init__(channels, width, reach=0)


class MeanAggregator(FlowAggregator):
    """Current feature and the mean over the neighbours, without attention."""

    def __init__(self, channels: int, width: int, length: int):
        super().__init__(channels, width, reach=length // 2)


class FlowAttentionAggregator(FlowAggregator):
    """Self-attention over the tokens [feature, displacement (dx, dt)] of the track.

    Args:
        length: positions of a full track; the tokens of missing neighbours are masked and read as zero.
        token_width, heads, head_width: sizes of the attention.
        displacement: tokens carry the encoded displacement from the current point.
        ray_attention: a second attention along the ray.
    """

    def __init__(self, channels: int, width: int, length: int, token_width: int, heads: int, head_width: int,
                 displacement: bool, ray_attention: bool):
        super().__init__(channels, width, reach=length // 2)
        self.offsets = tuple(range(-(length // 2), length // 2 + 1))
        self.token_width = token_width
        self.out_channels = length * token_width
        self.to_token = nn.Linear(channels, token_width)
        self.displacement = FrequencyEncoding(4, DISPLACEMENT_OCTAVES) if displacement else None
        self.from_displacement = nn.Linear(self.displacement.out_channels, token_width) if displacement else None
        self.attention = TrackAttention(token_width, heads, head_width)
        self.along_ray = RayAttention(self.out_channels, heads) if ray_attention else None

    def projections(self) -> list[nn.Linear]:
        """As in the base, with the token's layer last."""
        return [*super().projections(), self.to_token]

    def describe(self, track: FlowTrack, reads: dict[int, Tensor], pixels: TrackPixels, rays: int) -> Tensor:
        """Attend over the tokens of the track and concatenate them: (N, length * token_width)."""
        empty = torch.zeros_like(reads[0][:, -self.token_width :])
        nobody = torch.zeros_like(pixels.visible[0])
        tokens = [self.token(track, reads[o], o) if o in reads else empty for o in self.offsets]
        valid = torch.stack([pixels.visible.get(o, nobody) for o in self.offsets], dim=1)
        mixed = self.attention(torch.stack(tokens, dim=1), valid)
        motion = (mixed * valid[..., None]).flatten(1)
        return motion if self.along_ray is None else self.along_ray(motion, rays)

    def token(self, track: FlowTrack, read: Tensor, offset: int) -> Tensor:
        """(N, token_width) token of one position; the displacement is taken in field space, before projection."""
        token = read[:, -self.token_width :]
        if self.displacement is None:
            return token
        moved = track.displacement(offset)
        shift = torch.cat([moved, torch.full_like(moved[:, :1], float(offset))], dim=-1)
        return token + self.from_displacement(self.displacement(shift))
