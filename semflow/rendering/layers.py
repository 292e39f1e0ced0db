"""What moves at one time: the dynamic field asked along rays, as layers that a view composites."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from semflow.fields.solid import Solid, solid_in_parts
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import ReadyMaps, SemanticFlow
from semflow.rendering.compositing import alpha_from_density
from semflow.rendering.occupancy import SceneGrids
from semflow.rendering.static_rays import StaticRays


@dataclass(frozen=True)
class MovingSolid:
    """The dynamic field at N points of any time: what it is at one or two frames, mixed.

    Attributes:
        points: (N, 3) where the points are at the time itself. parts: share and answer of each frame.
    """

    points: Tensor
    parts: tuple[tuple[float, Solid], ...]

    @property
    def density(self) -> Tensor:
        """(N,) density; emptiness of one frame hides no other."""
        return self.mixed(lambda solid: torch.relu(solid.density))

    @property
    def blend(self) -> Tensor:
        """(N,) share of the dynamic field."""
        return self.mixed(lambda solid: solid.blend)

    def select(self, index: Tensor) -> MovingSolid:
        """The points at `index` (a mask or indices)."""
        return MovingSolid(self.points[index], tuple((share, solid.select(index)) for share, solid in self.parts))

    def mixed(self, of: Callable[[Solid], Tensor]) -> Tensor:
        """The mean of what `of` gives for each frame."""
        return sum(share * of(solid) for share, solid in self.parts)


class DynamicQueries:
    """Asks the dynamic field of one time, only where it can be seen.

    Args:
        model, scene, maps: the networks and the scene. time: frame index, fractional allowed.
        grids: where the fields can be seen; None: everything is asked for.
    """

    def __init__(self, model: SemanticFlow, scene: SceneContext, maps: ReadyMaps, time: float, grids: SceneGrids | None):
        self.model, self.scene, self.maps, self.time, self.grids = model, scene, maps, time, grids
        self.candidates = None if grids is None else grids.candidates(time)

    def occupied(self, points: Tensor) -> Tensor:
        """(...) bool: points (..., 3) where the field may be seen."""
        if self.candidates is None:
            return torch.ones_like(points[..., 0], dtype=torch.bool)
        return self.candidates.occupied(points)

    def places(self, points: Tensor) -> tuple[Tensor, dict[float, Tensor]]:
        """Which of the points (N, 3) to ask for, and where those are: time -> (M, 3) points.

        Networks are only asked about integer frames: a point of a time between two frames is carried to both by the
        flow. It is left out if nothing is there at either.

        Returns:
            (N,) bool; their points at the time itself, and at the one or two frames around it.
        """
        time, seen = self.time, torch.ones_like(points[:, 0], dtype=torch.bool)
        where = {time: points} | {frame: self.advect(points, frame - time) for frame in {math.floor(time), math.ceil(time)}}
        if len(where) > 1 and self.grids is not None and not self.model.config.ray_attention:
            seen = torch.stack([self.grids.dynamic(f).occupied(where[f]) for f in where if f != time]).any(0)
            where = {at: there[seen] for at, there in where.items()}
        return seen, where

    def solid(self, where: dict[float, Tensor], rays: int) -> MovingSolid:
        """The dynamic field at points whose places at the frames around the time are known; of so many rays."""
        time, parts = self.time, []
        length = 2 * self.model.aggregator.reach + 1
        for frame in sorted({math.floor(time), math.ceil(time)}):

            def ask(points: Tensor, rays: int, frame: int = frame) -> Solid:
                track = self.model.track(self.scene, self.maps, points, frame, length)
                return self.model.dynamic_solid(self.scene, self.maps, track, rays)

            if self.model.config.ray_attention:
                found = ask(where[frame], rays)
            else:
                found = solid_in_parts(lambda part: ask(part, len(part)), where[frame])
            parts.append((1.0 - abs(frame - time), found))
        return MovingSolid(where[time], tuple(parts))

    def looks(self, solid: MovingSolid) -> tuple[Tensor, Tensor]:
        """Colours (N, 3) and logits (N, K) of points."""
        found = [(share, self.model.dynamic_appearance(part)) for share, part in solid.parts]
        return tuple(sum(share * looks[i] for share, looks in found) for i in (0, 1))

    def advect(self, points: Tensor, offset: float) -> Tensor:
        """Where points (N, 3) of the time are `offset` frames later."""
        return self.model.flow.advect(points, self.time, offset, self.scene.timeline, self.maps.code, self.scene.index)


@dataclass(frozen=True)
class LayerSamples:
    """A layer of moving things along R rays.

    Attributes:
        chosen: (R, S) bool, the M samples that were asked for.
        alpha: (R, S) opacity of the layer, the blending included. blend: (R, S). Both zero where not asked for.
        looks: (M,) bool -> colours (N, 3) and logits (N, K) of these N samples.
        moves: (M,) bool -> (N, 3) motion of these N samples over one frame step, in the field space of the view.
    """

    chosen: Tensor
    alpha: Tensor
    blend: Tensor
    looks: Callable[[Tensor], tuple[Tensor, Tensor]]
    moves: Callable[[Tensor], Tensor]


class Layer(Protocol):
    """Moving things that a view shows."""

    def points(self, static: StaticRays) -> Tensor:
        """(R, S, 3) the samples of rays where the layer's field is asked for them."""

    def occupied(self, points: Tensor) -> Tensor:
        """(R, S) bool: samples where the layer may be seen."""

    def samples(self, static: StaticRays, points: Tensor, wanted: Tensor) -> LayerSamples:
        """The layer at the wanted ones among the samples (R, S) of rays, which lie at points (R, S, 3)."""


class WholeLayer:
    """The dynamic field as it is. Its times are those of the view."""

    def __init__(self, queries: DynamicQueries):
        self.queries = queries

    def points(self, static: StaticRays) -> Tensor:
        """(R, S, 3) the samples themselves."""
        return static.rays.at(static.u)

    def occupied(self, points: Tensor) -> Tensor:
        """(R, S) bool: samples where the field may be seen."""
        return self.queries.occupied(points)

    def samples(self, static: StaticRays, points: Tensor, wanted: Tensor) -> LayerSamples:
        """The field at the wanted samples."""
        queries = self.queries
        chosen, solid, _ = ask(queries, points, wanted)
        blend = spread(solid.blend, chosen)
        alpha = alpha_from_density(spread(solid.density, chosen), static.distances) * blend
        return LayerSamples(chosen, alpha, blend, lambda seen: queries.looks(solid.select(seen)),
                            lambda seen: self.displacement(solid.points[seen]))

    def displacement(self, points: Tensor) -> Tensor:
        """(N, 3) motion over one frame step, forward; at the end of the scene the last step is continued."""
        offset = step_offset(self.queries.time, self.queries.scene.frames)
        return (self.queries.advect(points, offset) - points) * offset


def step_offset(time: float, frames: int) -> float:
    """The frame step by which motion is measured at a time: forward, but backward at the end of the scene."""
    return 1.0 if time + 1 <= frames - 1 else -1.0


def ask(queries: DynamicQueries, points: Tensor, wanted: Tensor) -> tuple[Tensor, MovingSolid, dict[float, Tensor]]:
    """The dynamic field at the wanted ones among points (R, S, 3); whole rays if it attends along them.

    Returns:
        The samples (R, S) that were asked for, what is there, and their points: time -> (N, 3), also at the frames.
    """
    if queries.model.config.ray_attention:
        wanted = wanted.any(1, keepdim=True).expand_as(wanted)
    seen, where = queries.places(points[wanted])
    chosen = torch.zeros_like(wanted).masked_scatter(wanted, seen)
    rays = int(chosen.any(1).sum()) if queries.model.config.ray_attention else len(where[queries.time])
    return chosen, queries.solid(where, rays), where


def spread(values: Tensor, chosen: Tensor) -> Tensor:
    """Put values (M,) of the chosen samples into (R, S), zeros elsewhere."""
    return torch.zeros_like(chosen, dtype=values.dtype).masked_scatter(chosen, values)
