"""Flow feature aggregation: what the video shows at the places of a flow track.

See docs/method.md, "Features along the flow". The aggregators share one signature and differ only in what they make of the
features read along the track; swapping the aggregator is how the point-feature and mean-feature baselines are built. A linear
layer of a bilinear read equals the read of the projected map, so the cells of a wide map are projected once and narrow
features are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semflow.encoders.positional import FrequencyEncoding
from semflow.encoders.sampling import Corners, FeatureTable, corners_of, touched_rows
from semflow.fields.attention import RayAttention, TrackAttention
from semflow.fields.chunks import rows_of
from semflow.fields.track_scene import CUE_CHANNELS, TrackScene, locate, surface_cues
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
class Look:
    """What a frame shows at N places.

    Attributes:
        found: (N, C) features of a narrow map, or (N, width + token_width) projected ones of a wide map; zero where the
            place is not seen. cues: (N, 5) surface cues, None without. visible: (N,) bool: it is seen.
    """

    found: Tensor
    cues: Tensor | None
    visible: Tensor

    def nothing(self) -> Look:
        """As many places that are not seen."""
        cues = None if self.cues is None else torch.zeros_like(self.cues)
        return Look(torch.zeros_like(self.found), cues, torch.zeros_like(self.visible))


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
            cells = cells.index_select(0, touched)  # of wide rows a third of the time of an index in brackets
        return FeatureTable(self.project(cells, neighbour), row_of)

    def project(self, features: Tensor, neighbour: bool) -> Tensor:
        """(N, C) features of an encoder -> (N, width + token_width): the outputs that a position uses, see `rows`."""
        rows = self.rows(neighbour)
        return F.linear(features, self.from_map.weight[rows], self.from_map.bias[rows])

    def forward(self, tracks: Sequence[FlowTrack], maps: dict[int, FrameMap], scene: TrackScene, rays: int) -> FlowFeatures:
        """Features of the N points of some tracks, one after the other.

        Args:
            tracks: positions of the points; those of one frame or of several.
            maps: frame -> its map, for every frame of a track within reach.
            scene: geometry and cues. rays: number of rays R that the N points belong to.
        """
        if not self.channels:
            return FlowFeatures()
        looks = self.along(tracks, maps, scene)
        others = [offset for offset in looks if offset]
        projected = dict(zip(others, self.at_points([looks[offset] for offset in others], True))) if others else {}
        projected[0] = self.at_points([looks[0]], False)[0]
        reads = {offset: self.parted(projected[offset], look.visible, bool(offset)) for offset, look in looks.items()}
        current, neighbours = self.trunk_features(reads)
        return FlowFeatures(current, neighbours, self.describe(tracks, reads, rays))

    def along(self, tracks: Sequence[FlowTrack], maps: dict[int, FrameMap], scene: TrackScene) -> dict[int, Look]:
        """Offset -> what is seen there of the points of all tracks; a neighbour that a track does not have is not seen."""
        looks = [self.look(track, maps, scene) for track in tracks]
        joined = {}
        for offset in sorted(set().union(*looks)):
            there = [found[offset] if offset in found else found[0].nothing() for found in looks]
            cues = None if self.from_cues is None else rows_of([look.cues for look in there])
            joined[offset] = Look(rows_of([look.found for look in there]), cues, rows_of([look.visible for look in there]))
        return joined

    def look(self, track: FlowTrack, maps: dict[int, FrameMap], scene: TrackScene) -> dict[int, Look]:
        """Offset -> what is seen there of the points of a track, for its positions within reach."""
        offsets = sorted(offset for offset in track.positions if abs(offset) <= self.reach)
        near = [maps[track.frame + offset] for offset in offsets]
        points = torch.stack([track.positions[offset] for offset in offsets])  # (F, N, 3)
        here = scene.part(slice(track.frame + offsets[0], track.frame + offsets[-1] + 1))
        uv, visible = locate(points if self.gradient else points.detach(), here)
        corners = corners_of(near[0].cells.shape[:2], uv.flatten(0, 1), here.cameras.height, here.cameras.width)
        read = [self.table(frame_map, bool(offset), part).read(part) for frame_map, offset, part in
                zip(near, offsets, corners.where(visible.flatten()).split(len(offsets)))]
        cues = [None] * len(offsets) if self.from_cues is None else surface_cues(here, points.detach(), uv.detach())
        return {offset: Look(*found) for offset, *found in zip(offsets, read, cues, visible)}

    def at_points(self, looks: Sequence[Look], neighbour: bool) -> list[Tensor]:
        """What is still to be projected at the points, all in one product: narrow features with their bias, and cues.

        Args:
            looks: of N points each. neighbour: they are not at the points' own frame.

        Returns:
            (N, width + token_width) of each, zero where not visible.
        """
        found = [look.found for look in looks]
        if self.project_first and self.from_cues is None:
            return found
        seen = rows_of([look.visible for look in looks])[:, None].to(found[0].dtype)
        inputs, weights = [], []
        if not self.project_first:
            inputs, weights = [rows_of(found), seen], [self.from_map.weight, self.from_map.bias[:, None]]
        if self.from_cues is not None:
            inputs, weights = [*inputs, rows_of([look.cues for look in looks]) * seen], [*weights, self.from_cues.weight]
        projected = torch.cat(inputs, dim=1) @ torch.cat(weights, dim=1)[self.rows(neighbour)].T
        if self.project_first:
            projected = rows_of(found) + projected
        return list(projected.split([len(part) for part in found]))

    def parted(self, projected: Tensor, visible: Tensor, neighbour: bool) -> TrackRead:
        """Projected features (N, width + token_width) as what the trunk and the token get of them."""
        if neighbour:
            token, trunk = projected.split([self.token_width, self.width], dim=1)
        else:
            trunk, token = projected.split([self.width, self.token_width], dim=1)
        return TrackRead(trunk, token, visible)

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

    def describe(self, tracks: Sequence[FlowTrack], reads: dict[int, TrackRead], rays: int) -> Tensor | None:
        """(N, out_channels) description of the motion of the points of all tracks, or None."""
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

    def describe(self, tracks: Sequence[FlowTrack], reads: dict[int, TrackRead], rays: int) -> Tensor:
        """Attend over the tokens of the tracks and concatenate them: (N, length * token_width)."""
        empty = torch.zeros_like(reads[0].token)
        nobody = torch.zeros_like(reads[0].visible)
        found = self.tokens(tracks, reads)
        tokens = [found.get(offset, empty) for offset in self.offsets]
        valid = torch.stack([reads[o].visible if o in reads else nobody for o in self.offsets])
        mixed = self.attention(torch.stack(tokens), valid)
        motion = (mixed * valid[..., None]).transpose(0, 1).flatten(1)
        return motion if self.along_ray is None else self.along_ray(motion, rays)

    def tokens(self, tracks: Sequence[FlowTrack], reads: dict[int, TrackRead]) -> dict[int, Tensor]:
        """Offset -> (N, token_width) tokens; the displacement is taken in field space, before projection."""
        if self.displacement is None:
            return {offset: read.token for offset, read in reads.items()}
        shifts = {offset: self.shifts(tracks, offset) for offset in reads}
        codes = self.from_displacement(self.displacement(torch.cat(list(shifts.values()))))
        parts = codes.split([len(shift) for shift in shifts.values()])
        return {offset: read.token + code for (offset, read), code in zip(reads.items(), parts)}

    def shifts(self, tracks: Sequence[FlowTrack], offset: int) -> Tensor:
        """(N, 4) displacements (dx, dt) of the points of all tracks; (1, 4), the same for all, of offset 0."""
        if offset:
            moved = rows_of([track.displacement(offset) if offset in track.positions else torch.zeros_like(track.positions[0])
                             for track in tracks])
        else:
            moved = tracks[0].positions[0].new_zeros(1, 3)
        return torch.cat([moved, torch.full_like(moved[:, :1], float(offset))], dim=-1)
