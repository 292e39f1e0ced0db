"""The dynamic part of rays of a view at one time, composited with their static part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semflow.fields.solid import Solid, solid_in_parts
from semflow.geometry.cameras import Cameras
from semflow.models.semantic_flow import ReadyMaps, SceneContext, SemanticFlow
from semflow.records import Rays
from semflow.rendering.compositing import alpha_from_density, transmittance, uniform_weights
from semflow.rendering.occupancy import SceneGrids
from semflow.rendering.static_rays import SATURATED, VISIBLE, Looks, StaticQueries, StaticRays, chosen_points

GREY = 0.5


@dataclass(frozen=True)
class Pixels:
    """Rendered quantities of R rays; see `View`.

    Attributes:
        rgb, logits, share, flow, dynamic_rgb: (R, ...). points: (R, 3) field-space points of the expected depth.
        static_rgb: (R, 3).
    """

    rgb: Tensor
    logits: Tensor
    points: Tensor
    share: Tensor
    flow: Tensor
    dynamic_rgb: Tensor
    static_rgb: Tensor

    def replaced(self, index: Tensor, other: Pixels) -> Pixels:
        """Copy with the rays at `index` taken from `other`."""
        return Pixels(*(values.index_copy(0, index, getattr(other, name)) for name, values in vars(self).items()))


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


@dataclass(frozen=True)
class Moment:
    """What a view shows: a camera at a time. `with_flow`: the motion of its pixels is asked for."""

    cameras: Cameras
    camera: int
    time: float
    with_flow: bool


class DynamicQueries:
    """Asks the dynamic field of a moment about rays, only where it can be seen, and composites both fields.

    Args:
        model, scene, maps: the networks and the scene. moment: what is rendered.
        grids: where the fields can be seen; None: everything is asked for.
    """

    def __init__(self, model: SemanticFlow, scene: SceneContext, maps: ReadyMaps, moment: Moment, grids: SceneGrids | None):
        self.model, self.scene, self.maps, self.moment, self.grids = model, scene, maps, moment, grids
        self.candidates = None if grids is None else grids.candidates(moment.time)

    def render(self, static: StaticRays, queries: StaticQueries, density_prior: bool) -> Pixels:
        """Both fields composited; rays that meet no dynamic density keep the static rendering.

        Args:
            static: R rays. queries: what asks the static field where the blended rendering sees more of it than the
                static one. density_prior: composite the logits with the densities' weights; otherwise uniformly.
        """
        pixels = static_pixels(static)
        wanted = self.wanted(static)
        hit = wanted.any(1).nonzero()[:, 0]
        if not len(hit):
            return pixels
        chosen, where = self.places(static.rays.select(hit), static.u[hit], wanted[hit])
        if not chosen.any():
            return pixels
        solid = self.solid(where, len(hit) if self.model.config.ray_attention else int(chosen.sum()))
        return pixels.replaced(hit, self.blend(static, queries, hit, chosen, solid, density_prior))

    def wanted(self, static: StaticRays) -> Tensor:
        """(R, S) bool: samples where the dynamic field may be seen; whole rays if it attends along them."""
        wanted = torch.ones_like(static.u, dtype=torch.bool)
        if self.candidates is not None:
            wanted = self.candidates.occupied(static.rays.at(static.u))
            hit = wanted.any(1)
            # the light that is left at most: the blending can switch off the static field where there are candidates
            alpha = alpha_from_density(static.density[hit], static.distances[hit])
            wanted[hit] &= transmittance(1.0 - alpha * ~wanted[hit]) > SATURATED
        if self.model.config.ray_attention:
            wanted = wanted.any(1, keepdim=True).expand_as(wanted)
        return wanted

    def places(self, rays: Rays, u: Tensor, wanted: Tensor) -> tuple[Tensor, dict[float, Tensor]]:
        """Which samples (R, S) to ask for among the wanted ones, and where they are: time -> (N, 3) points.

        Networks are only asked about integer frames: a point of a time between two frames is carried to both by the
        flow. It is left out if nothing is there at either.

        Returns:
            The samples; their points at the moment itself, and at the one or two frames around it.
        """
        time, points = self.moment.time, chosen_points(rays, u, wanted)
        where = {time: points} | {frame: self.advect(points, frame - time) for frame in {math.floor(time), math.ceil(time)}}
        if len(where) > 1 and self.grids is not None and not self.model.config.ray_attention:
            seen = torch.stack([self.grids.dynamic(f).occupied(where[f]) for f in where if f != time]).any(0)
            wanted = torch.zeros_like(wanted).masked_scatter(wanted, seen)
            where = {at: there[seen] for at, there in where.items()}
        return wanted, where

    def solid(self, where: dict[float, Tensor], rays: int) -> MovingSolid:
        """The dynamic field at points whose places at the frames around the moment are known; of so many rays."""
        time, parts = self.moment.time, []
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

    def advect(self, points: Tensor, offset: float) -> Tensor:
        """Where points (N, 3) of the moment are `offset` frames later."""
        return self.model.flow.advect(
            points, self.moment.time, offset, self.scene.frames, self.maps.code, self.scene.index)

    def blend(self, static: StaticRays, queries: StaticQueries, hit: Tensor, chosen: Tensor, solid: MovingSolid,
              density_prior: bool) -> Pixels:
        """Composite the rays `hit` whose samples `chosen` were asked for."""
        rays, u, distances = static.rays.select(hit), static.u[hit], static.distances[hit]
        alpha, blend = alpha_from_density(spread(solid.density, chosen), distances), spread(solid.blend, chosen)
        dynamic_alpha = alpha * blend
        density = self.static_density(static, queries, hit, dynamic_alpha, blend)
        static_alpha = alpha_from_density(density, distances) * (1.0 - blend)
        light = transmittance((1.0 - dynamic_alpha) * (1.0 - static_alpha))
        static_weights, dynamic_weights = light * static_alpha, light * dynamic_alpha
        seen = dynamic_weights > VISIBLE if self.grids is not None else chosen
        solid = solid.select(seen[chosen])
        looks = Looks(seen, *self.looks(solid))
        logit_weights = (static_weights, dynamic_weights)
        if not density_prior:
            uniform = uniform_weights(u)
            logit_weights = (uniform * (1.0 - blend), uniform * blend)
        dynamic_rgb, dynamic_logits = looks.integrate(dynamic_weights, logit_weights[1])
        rgb, logits = static_looks(static, queries, hit, density, static_weights, logit_weights[0])
        weights, share = static_weights + dynamic_weights, dynamic_weights.sum(1)
        opacity = weights.sum(1).clamp(min=1e-3)[:, None]
        points = rays.at((weights * u).sum(1, keepdim=True) / opacity)[:, 0]
        flow = torch.zeros_like(rays.uv)
        if self.moment.with_flow:
            shift = Looks(seen, self.displacement(solid.points), solid.points).integrate(dynamic_weights, dynamic_weights)[0]
            flow = self.pixel(points + shift / opacity) - self.pixel(points)
        return Pixels(rgb + dynamic_rgb, logits + dynamic_logits, points, share, flow,
                      dynamic_rgb + GREY * (1.0 - share[:, None]), static.rgb[hit])

    def static_density(self, static: StaticRays, queries: StaticQueries, hit: Tensor, dynamic_alpha: Tensor, blend: Tensor
                       ) -> Tensor:
        """(R', S) static densities of the rays `hit`, asked for where the blended rendering sees more than was known."""
        density, known = static.density[hit], static.known[hit]
        static_alpha = alpha_from_density(density, static.distances[hit]) * (1.0 - blend)
        missing = ~known & (transmittance((1.0 - dynamic_alpha) * (1.0 - static_alpha)) > SATURATED)
        if not missing.any():
            return density
        found = queries.solid(chosen_points(static.rays.select(hit), static.u[hit], missing))
        return density.masked_scatter(missing, found.density)

    def looks(self, solid: MovingSolid) -> tuple[Tensor, Tensor]:
        """Colours (N, 3) and logits (N, K) of points."""
        found = [(share, self.model.dynamic_appearance(part)) for share, part in solid.parts]
        return tuple(sum(share * looks[i] for share, looks in found) for i in (0, 1))

    def displacement(self, points: Tensor) -> Tensor:
        """(N, 3) motion over one frame step, forward; at the end of the scene the last step is continued."""
        forward = self.moment.time + 1 <= self.scene.frames - 1
        moved = self.advect(points, 1.0 if forward else -1.0) - points
        return moved if forward else -moved

    def pixel(self, points: Tensor) -> Tensor:
        """(R, 2) pixels of field-space points (R, 3)."""
        return self.moment.cameras.project(self.scene.space.to_world(points), self.moment.camera)[0]


def static_pixels(static: StaticRays) -> Pixels:
    """The static rendering alone."""
    u = static.depth / static.opacity.clamp(min=1e-3)
    return Pixels(
        static.rgb, static.logits, static.rays.at(u[:, None])[:, 0], torch.zeros_like(u), torch.zeros_like(static.rays.uv),
        torch.full_like(static.rgb, GREY), static.rgb)


def static_looks(static: StaticRays, queries: StaticQueries, hit: Tensor, density: Tensor, weights: Tensor, logit_weights: Tensor
                 ) -> tuple[Tensor, Tensor]:
    """Composite the static looks of the rays `hit`, asked for where the static rendering did not see them."""
    looks = static.looks.of_rays(hit)
    rgb, logits = looks.integrate(weights, logit_weights)
    missing = queries.visible(weights) & (density > 0) & ~looks.chosen
    if missing.any():
        rays = static.rays.select(hit)
        solid = queries.solid(chosen_points(rays, static.u[hit], missing))
        more = queries.looks(missing, rays, solid).integrate(weights, logit_weights)
        rgb, logits = rgb + more[0], logits + more[1]
    return rgb, logits


def spread(values: Tensor, chosen: Tensor) -> Tensor:
    """Put values (M,) of the chosen samples into (R, S), zeros elsewhere."""
    return torch.zeros_like(chosen, dtype=values.dtype).masked_scatter(chosen, values)
