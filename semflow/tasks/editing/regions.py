"""The instances of a trained scene: connected regions of a class, in space and, where things move, along the flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from semflow.fields.solid import solid_in_parts
from semflow.records import LabelMap
from semflow.rendering.edits import Thing
from semflow.rendering.model_renderer import ModelRenderer
from semflow.rendering.occupancy import OccupancyGrid, SceneGrids, cell_of, half_a_clip_away
from semflow.tasks.editing.surfaces import CELLS, seen_surfaces

SEEN = 0.05  # opacity of a cell's thickness, times the blending, from which on it belongs to a region
LEAST_CELLS = 8  # of a region in all its frames; smaller ones, and those below
LEAST_SHARE = 0.02  # of the largest region of their class, belong to the nearest large one
REACH = 1.8  # cells around a region that its things may fill
NEAREST_AT_ONCE = 4096


@dataclass(frozen=True)
class Cells:
    """The M cells of a field where something is seen, over F frames (one for the static field).

    Attributes:
        frame: (M,) int64. cell: (M,) int64 number of the cell in its frame. points: (M, 3) their centres, field space.
        label: (M,) class. weight: (M,) what is seen there.
    """

    frame: Tensor
    cell: Tensor
    points: Tensor
    label: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Instance:
    """A region of a class.

    Attributes:
        name: `class#number`, 1 = the largest. label: class id. moves: it is of the dynamic field.
        group: its first group there.
        frames: frames it is seen in (empty for the static field). cells: how many it fills, over all frames.
        centres: (T, 3) world, where it is at each frame, held where it is not seen.
        size: (3,) world extent, the median over frames.
    """

    name: str
    label: int
    moves: bool
    group: int
    frames: tuple[int, ...]
    cells: int
    centres: Tensor
    size: Tensor


class FieldRegions:
    """The instances of one field, and which of them a sample belongs to.

    Groups: every class has two for each of its instances, in order, and one for the rest. The second of the two is what
    the field says of the class where no camera has ever looked, behind the instance: it is removed with it, but never
    shown elsewhere. The rest is far from every instance, like a rim of another thing, or where the camera of its frame
    sees that nothing of the class is near, like haze that hangs before a wall: it belongs to none.

    Args:
        cells: what is seen of the field. component: (M,) int64 connected region of each cell. classes: K.
        box: (2, 3) the grid's.
        hides: (points (N, 3), label, frame) -> (N,) bool, they are behind what a camera sees of the class.
        denies: the same, they are before what a camera sees where it sees nothing of the class.
    """

    def __init__(self, cells: Cells, component: Tensor, classes: int, box: Tensor,
                 hides: Callable[[Tensor, int, int], Tensor], denies: Callable[[Tensor, int, int], Tensor]):
        self.cells, self.classes, self.box, self.hides, self.denies = cells, classes, box, hides, denies
        self.first, self.count, self.group_of_cell = [], [], torch.full_like(component, -1)
        total = 0
        for label in range(classes):
            found = large_regions(component[cells.label == label])
            for number, region in enumerate(found):
                self.group_of_cell[(component == region) & (cells.label == label)] = total + 2 * number
            self.first.append(total)
            self.count.append(len(found))
            total += 2 * len(found) + 1
        self.groups = total
        self.never_seen = torch.zeros(total, dtype=torch.bool, device=box.device)
        for first, count in zip(self.first, self.count):
            self.never_seen[first + 1 : first + 2 * count : 2] = True
        self.nearest: dict[tuple[int, int], Tensor] = {}

    def of_samples(self, points: Tensor, label: Tensor, frame: int) -> Tensor:
        """(N,) groups of samples of the classes (N,) at field-space points (N, 3) of a frame."""
        group = torch.tensor(self.first, device=label.device)[label]
        for seen in (k for k in range(self.classes) if self.count[k]):
            own = label == seen
            if own.any():
                nearest = self.nearest_instance(seen, frame)[cell_of(points[own], self.box, CELLS)]
                group[own] = nearest.masked_fill(self.denies(points[own], seen, frame), self.rest_of(seen))
        return group

    def things(self) -> list[Thing]:
        """The groups of every instance."""
        return [Thing(first + 2 * number, first + 2 * number + 1, self.rest_of(label))
                for label, first in enumerate(self.first) for number in range(self.count[label])]

    def rest_of(self, label: int) -> int:
        """The group of what has a class and belongs to no instance."""
        return self.first[label] + 2 * self.count[label]

    def nearest_instance(self, label: int, frame: int) -> Tensor:
        """(CELLS^3,) group, of the instance of a class that is nearest to it, of each cell at a frame; kept."""
        if (label, frame) not in self.nearest:
            here = (self.cells.label == label) & (self.cells.frame == frame) & (self.group_of_cell >= 0)
            rest = self.rest_of(label)
            found = torch.full((CELLS**3,), rest, device=self.box.device)
            if here.any():
                all_cells = torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool, device=self.box.device)
                everywhere = OccupancyGrid(all_cells, self.box)
                there, groups = self.cells.points[here] / everywhere.cell_size, self.group_of_cell[here]
                centres = everywhere.centres()
                parts = (centres / everywhere.cell_size).split(NEAREST_AT_ONCE)
                distance, row = (torch.cat(values) for values in zip(*(torch.cdist(part, there).min(1) for part in parts)))
                hidden = torch.where(self.hides(centres, label, frame), groups[row] + 1, rest)
                found = torch.where(distance > REACH, hidden, groups[row])
            self.nearest[label, frame] = found
        return self.nearest[label, frame]

    def instances(self, label_map: LabelMap, moves: bool, to_world, frames: int) -> list[Instance]:
        """All instances, class by class; `to_world` converts points, T = frames."""
        found = []
        for label, first in enumerate(self.first):
            for number in range(self.count[label]):
                own = self.group_of_cell == first + 2 * number
                at, points = self.cells.frame[own], to_world(self.cells.points[own])
                seen = tuple(at.unique().tolist())
                sizes = torch.stack([points[at == f].amax(0) - points[at == f].amin(0) for f in seen])
                found.append(Instance(
                    f"{label_map.names[label]}#{number + 1}", label, moves, first + 2 * number, seen if moves else (),
                    int(own.sum()), self.centres(own, to_world, frames), sizes.median(0).values))
        return found

    def centres(self, own: Tensor, to_world, frames: int) -> Tensor:
        """(T, 3) weighted mean world position of the cells (M,) bool; held where none is seen."""
        at, weight = self.cells.frame[own], self.cells.weight[own][:, None]
        points = to_world(self.cells.points[own])
        seen = at.unique().tolist()
        means = torch.stack([(weight * points)[at == f].sum(0) / weight[at == f].sum() for f in seen])
        nearest = [min(range(len(seen)), key=lambda i: abs(seen[i] - frame)) for frame in range(frames)]
        return means[nearest]


class Regions:
    """What a scene holds: the regions of both fields; implements `Membership`.

    A class that may move is looked for in the dynamic field, any other in the static one, and in the other field only
    where it is not to be seen in its own: what the dynamic field says of the wall behind a ball is no wall.

    Args:
        moving, still: the regions of the dynamic and of the static field. label_map: the classes.
        to_world: converts field-space points (N, 3). frames: T.
    """

    def __init__(self, moving: FieldRegions, still: FieldRegions, label_map: LabelMap, to_world, frames: int):
        self.moving, self.still, self.label_map, self.frames = moving, still, label_map, frames
        self.things = moving.things()
        found = moving.instances(label_map, True, to_world, frames) + still.instances(label_map, False, to_world, frames)
        self.instances = sorted((i for i in found if i.moves == self.moves(i.label)), key=lambda i: (not i.moves, i.label))

    def moves(self, label: int) -> bool:
        """Whether a class is looked for in the dynamic field."""
        here, there = self.moving.count[label] > 0, self.still.count[label] > 0
        return here if label in self.label_map.foreground else here and not there

    def groups(self, points: Tensor, logits: Tensor, frame: int | None) -> Tensor:
        """(N,) groups of samples, see `Membership`: those of the nearest instances of their most likely classes."""
        field = self.still if frame is None else self.moving
        return field.of_samples(points, logits.argmax(-1), frame or 0)


@torch.no_grad()
def find_regions(renderer: ModelRenderer, scene: str, label_map: LabelMap) -> Regions:
    """Find the instances of a scene of a renderer."""
    context, maps = renderer.scenes[scene], renderer.ready_maps(scene)
    grids = renderer.scene_grids(scene)
    if grids is None or grids.resolution != CELLS:
        grids = SceneGrids(renderer.model, context, maps, CELLS)
    surfaces = seen_surfaces(renderer, scene)
    moving = chosen_cells(moving_cells(grids), lambda cells: surfaces.show(cells.points, cells.frame))
    still = chosen_cells(still_cells(grids), lambda cells: torch.stack([
        surfaces.show(cells.points, torch.full_like(cells.frame, frame)) for frame in range(context.frames)]).any(0))
    box, classes = grids.box, len(label_map)
    moving_field = FieldRegions(
        moving, connected(moving, moving_edges(moving, grids)), classes, box, surfaces.hide, surfaces.deny)
    still_field = FieldRegions(
        still, connected(still, near_edges(still)), classes, box, surfaces.hide_from_all, surfaces.deny_nothing)
    return Regions(moving_field, still_field, label_map, context.space.to_world, context.frames)


def chosen_cells(cells: Cells, chosen: Callable[[Cells], Tensor]) -> Cells:
    """The cells that a function (M,) bool of them chooses."""
    kept = chosen(cells)
    return Cells(*(value[kept] for value in vars(cells).values()))


def moving_cells(grids: SceneGrids) -> Cells:
    """Where the dynamic field shows something, at every frame."""
    model, scene, maps, length = grids.model, grids.scene, grids.maps, 2 * grids.model.aggregator.reach + 1
    parts = []
    for frame in range(scene.frames):
        grid = grids.dynamic(frame)
        points = grid.centres()
        if not len(points):
            continue

        def ask(part: Tensor, frame: int = frame):
            return model.dynamic_solid(scene, maps, model.track(scene, maps, part, frame, length), len(part))

        solid = solid_in_parts(ask, points)
        label = model.dynamic_appearance(solid)[1].argmax(-1)
        parts.append(seen_cells(grid, points, frame, grids.alpha(solid.density) * solid.blend, label))
    return joined_cells(parts, grids.box)


def still_cells(grids: SceneGrids) -> Cells:
    """Where the static field shows something."""
    model, scene = grids.model, grids.scene
    source = half_a_clip_away(scene, scene.frames // 2)
    grid = grids.static(source)
    points = grid.centres()
    if not len(points):
        return joined_cells([], grids.box)
    solid = solid_in_parts(lambda part: model.static_solid(scene, grids.maps, part, source), points)
    label = model.static_appearance(solid, torch.zeros_like(points))[1].argmax(-1)  # classes do not depend on directions
    return joined_cells([seen_cells(grid, points, 0, grids.alpha(solid.density), label)], grids.box)


def seen_cells(grid: OccupancyGrid, points: Tensor, frame: int, weight: Tensor, label: Tensor) -> Cells:
    """Those of the occupied cells of a grid whose centres show something."""
    seen = weight > SEEN
    cell = grid.cells.flatten().nonzero()[:, 0]
    return Cells(torch.full_like(label[seen], frame), cell[seen], points[seen], label[seen], weight[seen])


def joined_cells(parts: list[Cells], box: Tensor) -> Cells:
    """The cells of several frames."""
    none = torch.zeros(0, dtype=torch.int64, device=box.device)
    empty = Cells(none, none, box[:0], none, box[:0, 0])
    return Cells(*(torch.cat([getattr(part, name) for part in (empty, *parts)]) for name in vars(empty)))


def near_edges(cells: Cells, places: Tensor | None = None, step: int = 0) -> Tensor:
    """(2, E) pairs of cells of one class that touch, also by a corner.

    Args:
        places: (M,) cells to look around instead of their own. step: in how many frames from theirs.
    """
    rows = torch.full((int(cells.frame.max()) + 2 if len(cells.frame) else 1, CELLS**3), -1, device=cells.cell.device)
    rows[cells.frame, cells.cell] = torch.arange(len(cells.cell), device=cells.cell.device)
    places = cells.cell if places is None else places
    z, y, x = places // CELLS**2, places // CELLS % CELLS, places % CELLS
    own, pairs = torch.arange(len(places), device=places.device), []
    for dz, dy, dx in product((-1, 0, 1), repeat=3):
        there = torch.stack([z + dz, y + dy, x + dx])
        inside = ((there >= 0) & (there < CELLS)).all(0)
        near = rows[cells.frame + step, ((there[0] * CELLS + there[1]) * CELLS + there[2]).clamp(0, CELLS**3 - 1)]
        linked = inside & (near >= 0)
        linked = linked & (cells.label == cells.label[near.clamp(min=0)]) if len(near) else linked
        pairs.append(torch.stack([own[linked], near[linked]]))
    return torch.cat(pairs, dim=1)


def moving_edges(cells: Cells, grids: SceneGrids) -> Tensor:
    """(2, E) pairs of cells of one class that touch, or that the flow carries to each other from one frame to the next."""
    model, scene, pairs = grids.model, grids.scene, [near_edges(cells)]
    ahead = cells.points.clone()
    for frame in cells.frame.unique().tolist():
        if frame + 1 < scene.frames:
            own = cells.frame == frame
            ahead[own] = model.flow.advect(ahead[own], frame, 1.0, scene.timeline, grids.maps.code, scene.index)
    pairs.append(near_edges(cells, cell_of(ahead, grids.box, CELLS), step=1))
    return torch.cat(pairs, dim=1)


def connected(cells: Cells, edges: Tensor) -> Tensor:
    """(M,) int64 connected component of each cell: the smallest row in it."""
    component = torch.arange(len(cells.cell), device=cells.cell.device)
    while True:
        lowest = torch.minimum(component[edges[0]], component[edges[1]])
        found = component.scatter_reduce(0, edges[0], lowest, "amin").scatter_reduce(0, edges[1], lowest, "amin")
        found = found[found]
        if torch.equal(found, component):
            return component
        component = found


def large_regions(component: Tensor) -> list[int]:
    """The components that are instances, the largest first; equal ones in the order of their first cells."""
    numbers, sizes = component.unique(return_counts=True)
    if not len(numbers):
        return []
    least = max(LEAST_CELLS, LEAST_SHARE * int(sizes.max()))
    ranked = sorted(zip((-sizes).tolist(), numbers.tolist()))
    return [number for size, number in ranked if -size >= least]
