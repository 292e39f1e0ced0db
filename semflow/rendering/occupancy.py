"""Coarse grids that tell where the fields of a scene can be seen, so that the rest need not be queried."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.models.scene_context import SceneContext, scene_box
from semflow.models.semantic_flow import ReadyMaps, SemanticFlow
from semflow.rendering.compositing import alpha_from_density

OCCUPIED = 5e-3  # blending times opacity of a cell's thickness that counts in the dynamic field
OCCUPIED_STATIC = 2e-4  # opacity of a cell's thickness that counts in the static field: haze adds up along a ray
NODES = 8192  # nodes that are queried at once


@dataclass(frozen=True)
class OccupancyGrid:
    """Occupied cells of a box in field space.

    Attributes:
        cells: (G, G, G) bool, axes z, y, x. box: (2, 3) corners; points outside count as occupied.
    """

    cells: Tensor
    box: Tensor

    @property
    def cell_size(self) -> Tensor:
        """(3,) extent of a cell in field units."""
        return (self.box[1] - self.box[0]) / len(self.cells)

    def occupied(self, points: Tensor) -> Tensor:
        """(...) bool for points (..., 3)."""
        outside = ((points < self.box[0]) | (points > self.box[1])).any(-1)
        return self.cells.flatten()[cell_of(points, self.box, len(self.cells))] | outside

    def centres(self) -> Tensor:
        """(M, 3) centres of the occupied cells."""
        return self.box[0] + (self.cells.nonzero().flip(-1) + 0.5) * self.cell_size

    def widened(self, distance: Tensor) -> OccupancyGrid:
        """Grid of all cells within `distance` (3,) field units, rounded up to cells, of an occupied one."""
        x, y, z = (distance / self.cell_size).ceil().long().clamp(0, len(self.cells)).tolist()
        wide = self.cells[None, None].float()
        for axis, reach in enumerate((z, y, x)):
            kernel, padding = [1, 1, 1], [0, 0, 0]
            kernel[axis], padding[axis] = 2 * reach + 1, reach
            wide = F.max_pool3d(wide, kernel, stride=1, padding=padding)
        return OccupancyGrid(wide[0, 0] > 0, self.box)

    def __or__(self, other: OccupancyGrid) -> OccupancyGrid:
        return OccupancyGrid(self.cells | other.cells, self.box)


def cell_of(points: Tensor, box: Tensor, resolution: int) -> Tensor:
    """(...) int64 number, x fastest, of the cell of a box (2, 3) that points (..., 3) lie in, or the nearest one."""
    position = (points - box[0]) / ((box[1] - box[0]) / resolution)
    x, y, z = position.long().clamp(0, resolution - 1).unbind(-1)
    return (z * resolution + y) * resolution + x


def grid_nodes(box: Tensor, resolution: int) -> Tensor:
    """((G+1)^3, 3) corners of the cells of a box (2, 3), x fastest."""
    steps = torch.linspace(0, 1, resolution + 1, device=box.device)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return box[0] + torch.stack([x, y, z], dim=-1).view(-1, 3) * (box[1] - box[0])


def occupancy_from_nodes(opacity: Tensor, box: Tensor, resolution: int, limit: float = OCCUPIED) -> OccupancyGrid:
    """Grid from the visible opacity ((G+1)^3,) at the cells' corners.

    A cell is occupied if a corner of it or of an adjoining cell exceeds the limit: details smaller than a cell that
    touch no corner are covered by the margin.
    """
    nodes = opacity.view(1, 1, *[resolution + 1] * 3)
    highest = F.max_pool3d(nodes, kernel_size=2, stride=1)  # corners -> cells
    highest = F.max_pool3d(highest, kernel_size=3, stride=1, padding=1)
    return OccupancyGrid(highest[0, 0] > limit, box)


class SceneGrids:
    """The grids of one scene, each made when it is first asked for, and kept.

    There is one of the static field per frame that its image features come from, and one of the dynamic field per
    frame. No grid is made for a time between frames: what is seen there is seen where the flow carries it from or to.

    Args:
        model, scene, maps: the networks and the scene. resolution: cells per axis.
    """

    def __init__(self, model: SemanticFlow, scene: SceneContext, maps: ReadyMaps, resolution: int):
        self.model, self.scene, self.maps, self.resolution = model, scene, maps, resolution
        self.box = scene_box(scene.cameras, scene.space)
        self.static_alphas: dict[int, Tensor] = {}
        self.statics: dict[int, OccupancyGrid] = {}
        self.dynamics: dict[int, OccupancyGrid] = {}
        self.steps: dict[int, Tensor] = {}

    def static(self, source: int) -> OccupancyGrid:
        """Where the static field can be seen with the image features of frame `source` (if the model has any)."""
        if source not in self.statics:
            self.statics[source] = occupancy_from_nodes(
                self.static_alpha(source), self.box, self.resolution, OCCUPIED_STATIC)
        return self.statics[source]

    def static_alpha(self, source: int) -> Tensor:
        """((G+1)^3,) opacity of the static field at the nodes."""
        source = source if self.scene.image is not None else 0
        if source not in self.static_alphas:
            self.static_alphas[source] = self.at_nodes(
                lambda nodes: self.alpha(self.model.static_solid(self.scene, self.maps, nodes, source).density))
        return self.static_alphas[source]

    def dynamic(self, frame: int) -> OccupancyGrid:
        """Where the dynamic field changes what is seen at an integer frame: by what it shows, or by blending out."""

        def opacity_and_blend(nodes: Tensor) -> Tensor:
            track = self.model.track(self.scene, self.maps, nodes, frame, 2 * self.model.aggregator.reach + 1)
            solid = self.model.dynamic_solid(self.scene, self.maps, track, len(nodes))
            return torch.stack([self.alpha(solid.density), solid.blend], dim=1)

        if frame not in self.dynamics:
            alpha, blend = self.at_nodes(opacity_and_blend).unbind(1)
            seen = torch.maximum(alpha, self.static_alpha(half_a_clip_away(self.scene, frame))) * blend
            self.dynamics[frame] = occupancy_from_nodes(seen, self.box, self.resolution)
        return self.dynamics[frame]

    def candidates(self, time: float) -> OccupancyGrid:
        """Cells outside which the dynamic field cannot be seen at any time, also between frames."""
        before = math.floor(time)
        share = time - before
        if share == 0.0:
            return self.dynamic(before)
        step = self.farthest_step(before)
        return self.dynamic(before).widened(share * step) | self.dynamic(before + 1).widened((1.0 - share) * step)

    def farthest_step(self, frame: int) -> Tensor:
        """(3,) the farthest that anything visible moves along each axis between `frame` and the next one."""
        if frame not in self.steps:
            moved = [torch.zeros(1, 3, device=self.box.device)]
            for start, offset in ((frame, 1.0), (frame + 1, -1.0)):
                points = self.dynamic(start).centres()
                if not len(points):
                    continue
                there = self.model.flow.advect(points, start, offset, self.scene.timeline, self.maps.code, self.scene.index)
                moved.append((there - points).abs())
            self.steps[frame] = torch.cat(moved).amax(0)
        return self.steps[frame]

    def alpha(self, density: Tensor) -> Tensor:
        """Opacity (N,) of a cell of raw density (N,)."""
        return alpha_from_density(density, (self.box[1] - self.box[0]).amax() / self.resolution)

    def at_nodes(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """((G+1)^3, ...) values of a function of nodes (N, 3)."""
        return torch.cat([function(nodes) for nodes in grid_nodes(self.box, self.resolution).split(NODES)])


def half_a_clip_away(scene: SceneContext, time: float) -> int:
    """The frame whose image features the static field is rendered with at a time: what moves is elsewhere in it."""
    return (round(time) + scene.frames // 2) % scene.frames
