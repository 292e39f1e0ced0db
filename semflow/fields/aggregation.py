"""Flow feature aggregation: what the video shows at the places of a flow track (METHOD sections 4 and 5).

The aggregators share one signature and differ only in what they make of the features read along the track; swapping
the aggregator is how the point-feature and mean-feature baselines are built. A linear layer of a bilinear read equals
the read of the projected map, so the cells of a wide map are projected once and narrow features are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semflow.encoders.positional import FrequencyEncoding
from semflow.encoders.sampling import Corners, FeatureTable, corners_of, read_nearest, touched_rows
from semflow.fields.attention import RayAttention, TrackAttention
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space
from semflow.records import FlowTrack

DISPLACEMENT_OCTAVES = 4
CUE_SCALES = (0.02, 0.1)  # distances to the surface in u on which the cues are most sensitive
CUE_CHANNELS = 5


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
class SurfaceCues:
    """What the depth and the motion mask of each frame say, read beside the features.

    Attributes:
        surface_u: (T, H, W) ray parameter of the surface. motion: (T, H, W) float, 1 = moving.
    """

    surface_u: Tensor
    motion: Tensor


@dataclass(frozen=True)
class TrackScene:
    """Geometry of the scene that a track lies in; the cues are None where they are not used."""

    cameras: Cameras
    space: Space
    cues: SurfaceCues | None

    def only(self, frame: int) -> TrackScene:
        """The same for points of one frame alone, the frame 0 of what is returned."""
        one = slice(frame, frame + 1)
        cues = None if self.cues is None else SurfaceCues(self.cues.surface_u[one], self.cues.motion[one])
        return TrackScene(self.cameras.only(frame), self.space, cues)


@dataclass(frozen=True)
class TrackRead:
    """One position of a track: (N, D) features for the trunk, (N, token_width) for its token, and (N,) bool: it is seen."""

    trunk: Tensor
    token: Tensor
    visible: Tensor


@dataclass(frozen=True)
class FrameMap:
    """What the encoder says about one frame.

    Attributes:
        cells: (h, w, C) map.
        own, other: the same ready to be read for points of this frame, and for points of its neighbours, if it was
            prepared for many reads; see `FlowAggregator.prepare`.
    """

    cells: Tensor
    own: FeatureTable | None = None
    other: FeatureTable | None = None


def locate(points: Tensor, scene: TrackScene) -> tuple[Tensor, Tensor]:
    """Project field-space points (N, 3) into the camera of a frame (see `TrackScene.only`), as world points.

    Returns:
        (N, 2) pixels, and (N,) bool: in front and inside the image.
    """
    uv, in_front = scene.cameras.project(scene.space.to_world(points), 0)
    return uv, in_front & scene.cameras.inside(uv.detach())


def surface_cues(scene: TrackScene, points: Tensor, uv: Tensor) -> Tensor:
    """How points relate to the surface that a frame shows at their pixel.

    Read at the nearest pixel: between a moving thing and what lies behind it there is no surface to interpolate.

    Args:
        scene: of that frame alone, see `TrackScene.only`.
        points: (N, 3) field-space points. uv: (N, 2) their pixels.

    Returns:
        (N, 5): signed distance in u on two scales, nearness, motion, and nearness of a moving surface.
    """
    distance = scene.space.ray_parameter(points, scene.cameras, 0) - read_nearest(scene.cues.surface_u[0], uv)
    motion = read_nearest(scene.cues.motion[0], uv)
    near = torch.exp(-(distance / CUE_SCALES[0]).square())
    signed = [torch.tanh(distance / scale) for scale in CUE_SCALES]
    return torch.stack([*signed, near, motion, near * motion], dim=-1)


class FlowAggregator(nn.Module):
    """Reads the feature maps along a track; subclasses describe the motion.

    Args:
        channels: channels C of the encoder's maps (0: nothing is read).
        width: width D of the trunk features.
        reach: farthest neighbour that is read, in frames (0 = the current frame alone).
        cues: the features are joined by surface cues (see `SurfaceCues`).
        gradient: gradients reach the track through the places where maps are read.
        token_width: width of the tokens that the subclass wants (0 = none).
    """

    out_channels = 0

    def __init__(self, channels: int, width: int, reach: int, cues: bool, gradient: bool, token_width: int = 0):
        super().__init__()
        self.channels, self.width, self.token_width = channels, width, token_width
        self.reach = reach if channels else 0
        self.use_neighbours = self.reach > 0
        self.gradient = gradient
        # outputs of the projection: trunk features of the current frame, token, trunk features of its neighbours
        self.projected = width + token_width + (width if self.use_neighbours else 0)
        self.from_map = nn.Linear(channels, self.projected) if channels else None
        self.from_cues = nn.Linear(CUE_CHANNELS, self.projected, bias=False) if cues and channels else None

    @property
    def project_first(self) -> bool:
        """Wide maps are projected before they are read, narrow ones at the points: whatever is less work."""
        return self.channels > self.projected

    def prepare(self, feature_map: Tensor) -> FrameMap:
        """A map (h, w, C) ready for many reads with the current weights: a wide one is projected as a whole."""
        if not self.project_first:
            return FrameMap(feature_map)
        kinds = (False, True) if self.use_neighbours else (False,)
        return FrameMap(feature_map, *(FeatureTable(self.project(feature_map.flatten(0, 1), kind)) for kind in kinds))

    def table(self, frame_map: FrameMap, neighbour: bool, corners: Corners) -> FeatureTable:
        """What a position of the track, the points' own or a neighbour, reads of a map at `corners`.

        Of a wide map that is not prepared, only the cells that are read are projected. (A GPU would have to be waited
        for to know them: it projects all in less time.)
        """
        prepared = frame_map.other if neighbour else frame_map.own
        if prepared is not None:
            return prepared
        cells, row_of = frame_map.cells.flatten(0, 1), None
        if not self.project_first:
            return FeatureTable(cells)
        if cells.device.type == "cpu":
            touched, row_of = touched_rows(corners.cells, len(cells))
            cells = cells[touched]
        return FeatureTable(self.project(cells, neighbour), row_of)

    def project(self, features: Tensor, neighbour: bool) -> Tensor:
        """(N, C) features of an encoder -> (N, width + token_width): the outputs that a position uses, see `rows`."""
        rows = self.rows(neighbour)
        return F.linear(features, self.from_map.weight[rows], self.from_map.bias[rows])

    def forward(self, track: FlowTrack, maps: dict[int, FrameMap], scene: TrackScene, rays: int) -> FlowFeatures:
        """Features of the N points of a track.

        Args:
            track: positions of N points.
            maps: frame -> its map, for every frame of the track within reach.
            scene: geometry and cues. rays: number of rays R that the N points belong to.
        """
        if not self.channels:
            return FlowFeatures()
        reads = {}
        for offset, points in track.positions.items():
            if abs(offset) <= self.reach:
                frame = track.frame + offset
                reads[offset] = self.read(points, scene.only(frame), maps[frame], bool(offset))
        current, neighbours = self.trunk_features(reads)
        return FlowFeatures(current, neighbours, self.describe(track, reads, rays))

    def read(self, points: Tensor, scene: TrackScene, frame_map: FrameMap, neighbour: bool) -> TrackRead:
        """What a frame shows at one position of a track.

        Args:
            points: (N, 3) positions. scene: of their frame alone, see `TrackScene.only`. frame_map: its map.
            neighbour: the position is not the points' own.

        Returns:
            Projected features, zero where the position is not seen.
        """
        uv, visible = locate(points if self.gradient else points.detach(), scene)
        corners = corners_of(frame_map.cells.shape[:2], uv, scene.cameras.height, scene.cameras.width).where(visible)
        found = self.table(frame_map, neighbour, corners).read(corners)
        cues = None if self.from_cues is None else surface_cues(scene, points.detach(), uv.detach())
        found = self.at_points(found, cues, visible, neighbour)
        if neighbour:
            token, trunk = found.split([self.token_width, self.width], dim=1)
        else:
            trunk, token = found.split([self.width, self.token_width], dim=1)
        return TrackRead(trunk, token, visible)

    def at_points(self, found: Tensor, cues: Tensor | None, visible: Tensor, neighbour: bool) -> Tensor:
        """What is still to be projected at the points, all in one product: narrow features with their bias, and cues.

        Args:
            found: (N, C) features of a narrow map, or (N, width + token_width) projected ones of a wide map; zero where
                not visible. cues: (N, 5) or None. visible: (N,) bool.

        Returns:
            (N, width + token_width), zero where not visible.
        """
        seen, inputs, weights = visible[:, None].to(found.dtype), [], []
        if not self.project_first:
            inputs, weights = [found, seen], [self.from_map.weight, self.from_map.bias[:, None]]
        if cues is not None:
            inputs, weights = [*inputs, cues * seen], [*weights, self.from_cues.weight]
        if not inputs:
            return found
        projected = torch.cat(inputs, dim=1) @ torch.cat(weights, dim=1)[self.rows(neighbour)].T
        return found + projected if self.project_first else projected

    def rows(self, neighbour: bool) -> slice:
        """Outputs of the projection that a position of the track uses: [trunk, token], or [token, trunk] of a neighbour."""
        return slice(self.width, None) if neighbour else slice(0, self.width + self.token_width)

    def trunk_features(self, reads: dict[int, TrackRead]) -> tuple[Tensor, Tensor | None]:
        """Current (N, D) and mean neighbour (N, D) features; positions that are not seen count as zero."""
        current = reads[0].trunk
        if not self.use_neighbours:
            return current, None
        neighbours = [offset for offset in reads if offset]
        if not neighbours:
            return current, torch.zeros_like(current)
        total = sum((reads[offset].trunk for offset in neighbours[1:]), reads[neighbours[0]].trunk)
        count = sum(reads[offset].visible.to(total.dtype) for offset in neighbours)
        return current, total / count.clamp(min=1)[:, None]

    def describe(self, track: FlowTrack, reads: dict[int, TrackRead], rays: int) -> Tensor | None:
        """(N, out_channels) description of the motion, or None."""
        return None


class PointAggregator(FlowAggregator):
    """The current frame's feature alone (MonoNeRF's point features): no flow."""

    def __init__(self, channels: int, width: int, cues: bool, gradient: bool):
        super().__init__(channels, width, 0, cues, gradient)


class MeanAggregator(FlowAggregator):
    """Current feature and the mean over the neighbours, without attention."""

    def __init__(self, channels: int, width: int, length: int, cues: bool, gradient: bool):
        super().__init__(channels, width, length // 2, cues, gradient)


class FlowAttentionAggregator(FlowAggregator):
    """Self-attention over the tokens [feature, displacement (dx, dt)] of the track.

    Args:
        length: positions of a full track; the tokens of missing neighbours are masked and read as zero.
        token_width, heads, head_width: sizes of the tokens and of the attention.
        displacement: tokens carry the encoded displacement from the current point.
        ray_attention: a second attention along the ray.
    """

    def __init__(self, channels: int, width: int, length: int, cues: bool, gradient: bool, token_width: int, heads: int,
                 head_width: int, displacement: bool, ray_attention: bool):
        super().__init__(channels, width, length // 2, cues, gradient, token_width)
        self.offsets = tuple(range(-(length // 2), length // 2 + 1))
        self.out_channels = length * token_width
        self.displacement = FrequencyEncoding(4, DISPLACEMENT_OCTAVES) if displacement else None
        self.from_displacement = nn.Linear(self.displacement.out_channels, token_width) if displacement else None
        self.attention = TrackAttention(token_width, heads, head_width)
        self.along_ray = RayAttention(self.out_channels, heads) if ray_attention else None

    def describe(self, track: FlowTrack, reads: dict[int, TrackRead], rays: int) -> Tensor:
        """Attend over the tokens of the track and concatenate them: (N, length * token_width)."""
        empty = torch.zeros_like(reads[0].token)
        nobody = torch.zeros_like(reads[0].visible)
        tokens = [self.token(track, reads[o].token, o) if o in reads else empty for o in self.offsets]
        valid = torch.stack([reads[o].visible if o in reads else nobody for o in self.offsets], dim=1)
        mixed = self.attention(torch.stack(tokens, dim=1), valid)
        motion = (mixed * valid[..., None]).flatten(1)
        return motion if self.along_ray is None else self.along_ray(motion, rays)

    def token(self, track: FlowTrack, token: Tensor, offset: int) -> Tensor:
        """(N, token_width) token of one position; the displacement is taken in field space, before projection."""
        if self.displacement is None:
            return token
        moved = track.displacement(offset) if offset else token.new_zeros(1, 3)  # the same for all points
        shift = torch.cat([moved, torch.full_like(moved[:, :1], float(offset))], dim=-1)
        return token + self.from_displacement(self.displacement(shift))
