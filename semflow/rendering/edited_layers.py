"""Layers that edits change: things of a field, put elsewhere, shown at another time, recoloured, faded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space
from semflow.models.scene_context import scene_box
from semflow.records import FieldSamples
from semflow.rendering.compositing import alpha_from_density
from semflow.rendering.edits import LayerEdit, Membership, faded_alpha
from semflow.rendering.layers import DynamicQueries, LayerSamples, ask, spread, step_offset
from semflow.rendering.outlines import Outlines, find_outlines
from semflow.rendering.static_rays import SampledRays, StaticQueries, StaticRays


@dataclass(frozen=True)
class Part:
    """Samples of a field at one frame.

    Attributes:
        share: of this frame in what is shown. samples: N samples. group: (N,) of each.
    """

    share: float
    samples: FieldSamples
    group: Tensor


class Placed:
    """Where the things of a field are put into the field space of a view.

    Args:
        placement: (4, 4), from where they are in the world; None: they stay. own: their field space. view: the view's.
    """

    def __init__(self, placement: Tensor | None, own: Space, view: Space):
        self.placement, self.own, self.view = placement, own, view
        self.stays = placement is None and own is view

    def to_view(self, points: Tensor) -> Tensor:
        """Points (..., 3) of the things -> points of the view."""
        return points if self.stays else self.view.from_world(moved(self.own.to_world(points), self.placement))

    def from_view(self, points: Tensor) -> Tensor:
        """Points (..., 3) of the view -> where the things' field is asked."""
        if self.stays:
            return points
        back = None if self.placement is None else torch.linalg.inv(self.placement)
        return self.own.from_world(moved(self.view.to_world(points), back))


def moved(points: Tensor, matrix: Tensor | None) -> Tensor:
    """World points (..., 3) under an affine matrix (4, 4); None moves nothing."""
    return points if matrix is None else points @ matrix[:3, :3].T + matrix[:3, 3]


class EditedLayer:
    """A layer of the dynamic or the static field.

    What belongs to a thing of the dynamic field counts to it only on rays on which the thing is, or at its outline;
    elsewhere it is haze, which is shown as what belongs to nothing.

    Args:
        layer: the edits. membership: what its groups are.
        queries: what asks the field, at the time of the field that is shown. view: the view's field space.
        time: of the view.
    """

    def __init__(self, layer: LayerEdit, membership: Membership, queries: DynamicQueries | StaticQueries, view: Space,
                 time: float):
        self.layer, self.membership, self.queries, self.time = layer, membership, queries, time
        self.frames, self.own, self.view = queries.scene.frames, queries.scene.space, view
        self.placed = self.placed_at(time)
        self.box = scene_box(queries.scene.cameras, self.own)
        self.bodies = layer.treatment.bodies(membership.things) if layer.moves else []
        self.outlines: Outlines | None = None

    def look_from(self, cameras: Cameras, camera: int, samples: int, at_once: int) -> None:
        """Look for the outlines of things in a view, before samples of it are asked for; see `find_outlines`."""
        if self.bodies:
            self.outlines = find_outlines(self.opacity, cameras, camera, self.view, samples, at_once)

    def placed_at(self, time: float) -> Placed:
        """Where the things are put at a time of the view."""
        return Placed(self.layer.placed_at(self.layer.clock.at(time, self.frames)), self.own, self.view)

    def points(self, sampled: SampledRays) -> Tensor:
        """(R, S, 3) samples where the field is asked for them."""
        return self.placed.from_view(sampled.rays.at(sampled.u))

    def occupied(self, points: Tensor) -> Tensor:
        """(R, S) bool: samples where the layer may be seen; nothing is known of what lies outside the field's box."""
        if self.placed.stays:
            return self.queries.occupied(points)
        inside = ((points >= self.box[0]) & (points <= self.box[1])).all(-1)
        return inside & self.queries.occupied(points)

    def samples(self, static: StaticRays, points: Tensor, wanted: Tensor) -> LayerSamples:
        """The layer at the wanted ones among the samples (R, S), where its field is asked at points (R, S, 3)."""
        chosen, parts, there = self.ask(static, points, wanted)
        distances = self.distances(static, points)
        if self.outlines is not None:
            near = self.outlines.around(static.rays.uv) | (self.opacity_on(parts, chosen, distances) >= self.outlines.least)
            parts = [replace(part, group=self.without_haze(part.group, near, chosen)) for part in parts]
        parts = [replace(part, samples=self.layer.treatment.shown(part.samples, part.group)) for part in parts]
        blend = sum(part.share * part.samples.blend for part in parts)
        density = sum(part.share * part.samples.density for part in parts)
        alpha = alpha_from_density(spread(density, chosen), distances) * spread(blend, chosen)
        alpha, blend = self.faded(alpha, spread(blend, chosen), chosen, parts)
        rgb, logits = mixed_looks(parts)
        return LayerSamples(chosen, alpha, blend, lambda seen: (rgb[seen], logits[seen]),
                            lambda seen: self.displacement(there[seen]))

    def opacity(self, sampled: SampledRays) -> Tensor:
        """(B, R) opacity of the bodies along R rays."""
        points = self.points(sampled)
        wanted = self.occupied(points)
        if not wanted.any():
            return sampled.u.new_zeros(len(self.bodies), len(wanted))
        chosen, parts, _ = self.ask(sampled, points, wanted)
        return self.opacity_on(parts, chosen, self.distances(sampled, points))

    def opacity_on(self, parts: list[Part], chosen: Tensor, distances: Tensor) -> Tensor:
        """(B, R) opacity of the bodies along rays, by what was found at the chosen samples (R, S): the larger of two frames'."""
        found = distances.new_zeros(len(self.bodies), len(chosen))
        for part in parts:
            alpha = alpha_from_density(spread(torch.relu(part.samples.density), chosen), distances)
            alpha = alpha * spread(part.samples.blend, chosen)
            along = [1.0 - (1.0 - alpha * spread(body.own[part.group], chosen)).prod(1) for body in self.bodies]
            found = torch.maximum(found, torch.stack(along))
        return found

    def without_haze(self, group: Tensor, near: Tensor, chosen: Tensor) -> Tensor:
        """(N,) groups of the chosen samples (R, S): what is of a body that is not near (B, R) its ray belongs to nothing."""
        rays = chosen.nonzero()[:, 0]
        for body, around in zip(self.bodies, near):
            group = group.masked_fill(body.own[group] & ~around[rays], body.rest)
        return group

    def ask(self, sampled: SampledRays, points: Tensor, wanted: Tensor) -> tuple[Tensor, list[Part], Tensor]:
        """What the field says at the wanted samples: which were asked for (R, S), what they are, where (N, 3)."""
        model = self.queries.model
        if not self.layer.moves:
            there = points[wanted]
            solid = self.queries.solid(there)
            directions = sampled.rays.view_dirs[wanted.nonzero()[:, 0]]
            looks = model.static_appearance(solid, directions)
            found = FieldSamples(solid.density, *looks, torch.ones_like(solid.density))
            return wanted, [self.part(1.0, found, there, None)], there
        chosen, solid, where = ask(self.queries, points, wanted)
        frames = sorted(frame for frame in where if frame == int(frame))
        parts = [
            self.part(share, FieldSamples(part.density, *model.dynamic_appearance(part), part.blend), where[frame], frame)
            for frame, (share, part) in zip(map(int, frames), solid.parts)
        ]
        return chosen, parts, solid.points

    def part(self, share: float, samples: FieldSamples, points: Tensor, frame: int | None) -> Part:
        """Samples of one frame, and their groups."""
        return Part(share, samples, self.membership.groups(points, samples.logits, frame))

    def distances(self, sampled: SampledRays, points: Tensor) -> Tensor:
        """(R, S) lengths of the samples' intervals where the field is asked: a thing made larger gets no denser."""
        if self.placed.stays:
            return sampled.distances
        step = sampled.rays.directions / sampled.rays.directions.norm(dim=-1, keepdim=True)
        ends = sampled.rays.at(sampled.u) + sampled.distances[..., None] * step[:, None]
        return (self.placed.from_view(ends) - points).norm(dim=-1)

    def faded(self, alpha: Tensor, blend: Tensor, chosen: Tensor, parts: list[Part]) -> tuple[Tensor, Tensor]:
        """Opacities and blending (R, S) with the opacities of the groups; a sample counts to its nearest frame's."""
        opacity = self.layer.treatment.opacity
        groups = spread(max(parts, key=lambda part: part.share).group + 1, chosen) - 1
        for group in ((opacity > 0) & (opacity < 1)).nonzero()[:, 0].tolist():
            own, value = groups == group, float(opacity[group])
            alpha = torch.where(own, faded_alpha(alpha * own, value), alpha)
            blend = torch.where(own, blend * value, blend)
        return alpha, blend

    def displacement(self, points: Tensor) -> Tensor:
        """(N, 3) motion over one frame step, in the field space of the view, of things at points (N, 3) of their own."""
        if not self.layer.moves:
            return torch.zeros_like(points)
        offset = step_offset(self.time, self.frames)
        there = self.queries.advect(points, self.layer.clock.at(self.time + offset, self.frames) - self.queries.time)
        return (self.placed_at(self.time + offset).to_view(there) - self.placed.to_view(points)) * offset


def mixed_looks(parts: list[Part]) -> tuple[Tensor, Tensor]:
    """Colours (N, 3) and logits (N, K) of samples of one or two frames; what is removed in a frame counts nothing there."""
    if len(parts) == 1:
        return parts[0].samples.rgb, parts[0].samples.logits
    kept = [part.share * (part.samples.blend > 0) for part in parts]
    total = sum(kept).clamp(min=1e-12)
    return tuple(sum((share / total)[:, None] * getattr(part.samples, name) for share, part in zip(kept, parts))
                 for name in ("rgb", "logits"))
