"""The static part of rays of a view: where the static field is seen, and what it looks like there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.fields.solid import Solid, solid_in_parts
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import ReadyMaps, SemanticFlow
from semflow.records import Rays
from semflow.rendering.compositing import alpha_from_density, sample_distances, transmittance, uniform_weights
from semflow.rendering.edits import StillEdit
from semflow.rendering.occupancy import OccupancyGrid
from semflow.rendering.samples import from_weights, stratified

SATURATED = 1e-3  # light left on a ray behind which nothing is asked for
VISIBLE = 1e-4  # weight of a sample below which its looks are not asked for
SEGMENT = 8  # samples of a ray that are asked for at once, from the front


@dataclass(frozen=True)
class Looks:
    """Colours and logits of some of R x S samples.

    Attributes:
        chosen: (R, S) bool, the M samples. rgb: (M, 3), logits: (M, K) in their order, ray by ray.
    """

    chosen: Tensor
    rgb: Tensor
    logits: Tensor

    def integrate(self, weights: Tensor, logit_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (R, 3) and logits (R, K) composited under weights (R, S); samples that are not chosen count nothing."""
        ray = self.chosen.nonzero()[:, 0]

        def total(values: Tensor, weights: Tensor) -> Tensor:
            summed = values.new_zeros(len(weights), values.shape[1])
            return summed.index_add_(0, ray, weights[self.chosen][:, None] * values)

        return total(self.rgb, weights), total(self.logits, logit_weights)

    def of_rays(self, index: Tensor) -> Looks:
        """The looks of the rays at the increasing indices (R',)."""
        wanted = torch.zeros_like(self.chosen[:, 0]).index_fill_(0, index, True)[self.chosen.nonzero()[:, 0]]
        return Looks(self.chosen[index], self.rgb[wanted], self.logits[wanted])


@dataclass(frozen=True)
class SampledRays:
    """Rays and the places on them that fields are asked for.

    Attributes:
        rays: R rays. u, distances: (R, S).
    """

    rays: Rays
    u: Tensor
    distances: Tensor


@dataclass(frozen=True)
class StaticRays(SampledRays):
    """The static part of R rays of a view, which does not depend on time.

    Attributes:
        density: (R, S), zero where it was not asked for. known: (R, S) bool, it was, or there is nothing.
        looks: of the samples that the static rendering sees.
        rgb, logits, depth, opacity: (R, 3), (R, K), (R,), (R,) the static rendering; see `Rendering`.
    """

    density: Tensor
    known: Tensor
    looks: Looks
    rgb: Tensor
    logits: Tensor
    depth: Tensor
    opacity: Tensor

    def select(self, index: Tensor) -> StaticRays:
        """The rays at the increasing indices (R',)."""
        parts = {name: value[index] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return StaticRays(rays=self.rays.select(index), looks=self.looks.of_rays(index), **parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the samples."""
        tensors = (self.u, self.distances, self.density, self.known, self.looks.chosen, self.looks.rgb, self.looks.logits)
        return sum(tensor.nbytes for tensor in tensors)


@dataclass(frozen=True)
class Asked:
    """Samples whose densities were asked for.

    Attributes:
        u: (R, S). density: (R, S), zero where it was not asked for. known: (R, S) bool, it was, or there is nothing.
        row: (R, S) row of the sample in `hidden` (M, D), -1 where there is none.
    """

    u: Tensor
    density: Tensor
    known: Tensor
    row: Tensor
    hidden: Tensor

    def merged(self, other: Asked) -> Asked:
        """Both sets of samples along the same rays, sorted by u."""
        u, order = torch.cat([self.u, other.u], dim=1).sort(dim=1)
        later = torch.where(other.row >= 0, other.row + len(self.hidden), -1)

        def sort(first: Tensor, second: Tensor) -> Tensor:
            return torch.cat([first, second], dim=1).gather(1, order)

        return Asked(u, sort(self.density, other.density), sort(self.known, other.known), sort(self.row, later),
                     torch.cat([self.hidden, other.hidden]))


class StaticQueries:
    """Asks the static field about rays, front to back, and only where it can be seen.

    Args:
        model, scene, maps, source: the field, and the frame of its image features.
        grid: where the field can be seen; None: everything is asked for. edit: of its samples.
    """

    def __init__(self, model: SemanticFlow, scene: SceneContext, maps: ReadyMaps, source: int, grid: OccupancyGrid | None,
                 edit: StillEdit | None = None):
        self.model, self.scene, self.maps, self.source, self.grid, self.edit = model, scene, maps, source, grid, edit

    def solid(self, points: Tensor) -> Solid:
        """Densities of points (N, 3)."""
        return solid_in_parts(self.solid_part, points)

    def solid_part(self, points: Tensor) -> Solid:
        """Densities of a part of the points (N, 3)."""
        solid = self.model.static_solid(self.scene, self.maps, points, self.source)
        if self.edit is None:
            return solid
        _, logits = self.model.static_appearance(solid, torch.zeros_like(points))  # classes do not depend on directions
        return replace(solid, density=self.edit.density(points, solid.density, logits))

    def looks(self, chosen: Tensor, rays: Rays, u: Tensor, solid: Solid) -> Looks:
        """Looks of the chosen ones among the samples at u (R, S) of rays, whose densities are `solid`."""
        rgb, logits = self.model.static_appearance(solid, rays.view_dirs[chosen.nonzero()[:, 0]])
        if self.edit is not None:
            rgb = self.edit.rgb(chosen_points(rays, u, chosen), rgb, logits)
        return Looks(chosen, rgb, logits)

    def visible(self, weights: Tensor) -> Tensor:
        """(R, S) bool: samples whose looks count."""
        return weights > VISIBLE if self.grid is not None else torch.ones_like(weights, dtype=torch.bool)

    def render(self, rays: Rays, samples: int, fine_samples: int, density_prior: bool) -> StaticRays:
        """Static part of rays with evenly spaced samples, and fine ones where those find a surface."""
        asked = self.march(rays, stratified(len(rays), samples, None, rays.uv.device))
        if fine_samples:
            asked = asked.merged(self.fine(rays, asked, fine_samples))
        distances = sample_distances(asked.u, rays.directions)
        alpha = alpha_from_density(asked.density, distances)
        weights = transmittance(1.0 - alpha) * alpha
        chosen = self.visible(weights) & (asked.row >= 0)
        looks = self.looks(chosen, rays, asked.u, Solid(asked.density[chosen], asked.hidden[asked.row[chosen]]))
        rgb, logits = looks.integrate(weights, weights if density_prior else uniform_weights(weights))
        return StaticRays(rays, asked.u, distances, asked.density, asked.known, looks, rgb, logits,
                          (weights * asked.u).sum(1), weights.sum(1))

    def march(self, rays: Rays, u: Tensor) -> Asked:
        """Ask for samples (R, S) from the front until their rays are saturated."""
        distances = sample_distances(u, rays.directions)
        occupied = self.occupied(rays.at(u))
        step = u.shape[1] if self.grid is None else SEGMENT
        light, parts = torch.ones_like(u[:, 0]), []
        for first in range(0, u.shape[1], step):
            part = slice(first, first + step)
            unsaturated = (light > SATURATED)[:, None] if self.grid is not None else True
            found = self.ask(rays, u[:, part], occupied[:, part], occupied[:, part] & unsaturated)
            light = light * (1.0 - alpha_from_density(found.density, distances[:, part])).prod(1)
            parts.append(found)
        return joined(parts)

    def fine(self, rays: Rays, coarse: Asked, samples: int) -> Asked:
        """Further samples (R, samples) where the coarse ones find a surface."""
        count, alpha = coarse.u.shape[1], alpha_from_density(coarse.density, sample_distances(coarse.u, rays.directions))
        light = transmittance(1.0 - alpha)
        # the surface may lie anywhere between the heavy sample and its neighbours (mip-NeRF, section 3)
        weights = F.max_pool1d((light * alpha)[:, None], kernel_size=3, stride=1, padding=1)[:, 0]
        edges = (torch.arange(count + 1, device=alpha.device) / count).expand(len(rays), count + 1)
        u = from_weights(edges, weights, samples)
        occupied = self.occupied(rays.at(u))
        wanted = occupied
        if self.grid is not None:
            wanted = occupied & (light.gather(1, (u * count).long().clamp(max=count - 1)) > SATURATED)
        return self.ask(rays, u, occupied, wanted)

    def occupied(self, points: Tensor) -> Tensor:
        """(...) bool: points (..., 3) where the field may be seen."""
        return torch.ones_like(points[..., 0], dtype=torch.bool) if self.grid is None else self.grid.occupied(points)

    def ask(self, rays: Rays, u: Tensor, occupied: Tensor, wanted: Tensor) -> Asked:
        """Densities of the wanted ones among samples (R, S)."""
        points = chosen_points(rays, u, wanted)
        # networks are not asked about no points at all, which some operations do not take
        solid = self.solid(points) if len(points) else self.solid(rays.origins[:1]).select(slice(0))
        density = torch.zeros_like(u)
        density[wanted] = solid.density
        row = torch.full_like(wanted, -1, dtype=torch.int64)
        row[wanted] = torch.arange(len(solid.density), device=u.device)
        return Asked(u, density, wanted | ~occupied, row, solid.hidden)


def chosen_points(rays: Rays, u: Tensor, chosen: Tensor) -> Tensor:
    """(M, 3) field-space points of the chosen ones among samples at u (R, S), ray by ray."""
    ray = chosen.nonzero()[:, 0]
    return rays.origins[ray] + u[chosen][:, None] * rays.directions[ray]


def joined(parts: list[Asked]) -> Asked:
    """Segments of the same rays, one behind the other."""
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part.hidden))
    rows = [torch.where(part.row >= 0, part.row + start, -1) for part, start in zip(parts, starts)]
    return Asked(*(torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("u", "density", "known")),
                 torch.cat(rows, dim=1), torch.cat([part.hidden for part in parts]))
