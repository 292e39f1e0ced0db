"""Ray casting: nearest surfaces, their colours, and where their points are at other times.

`depth` is always along the viewing axis of the camera, in world units.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.data.synthetic.scene import Thing
from semflow.geometry.cameras import Cameras

LIGHT = (0.35, 0.75, 0.56)  # direction to the light
AMBIENT, DIFFUSE = 0.55, 0.5


@contextmanager
def single_threaded() -> Iterator[None]:
    """Torch on one thread (as a context or a decorator): ray casting is many small operations, which lose time to
    the synchronisation of threads, so that whole cameras are shared out instead.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class View:
    """The rays of one camera through a regular grid of points of its image.

    Attributes:
        cameras: cameras resized to the grid.
        frame: which of them.
        directions: (H, W, 3) world directions with unit depth.
    """

    cameras: Cameras
    frame: int
    directions: Tensor

    @property
    def origin(self) -> Tensor:
        """(3,) camera centre."""
        return self.cameras.center(self.frame).to(self.directions.dtype)


def make_view(cameras: Cameras, frame: int, height: int, width: int, dtype=torch.float64) -> View:
    """Rays through the pixel centres of a height x width image."""
    resized = cameras.resized(height, width)
    directions = resized.directions(frame, resized.pixels().double())
    return View(resized, frame, directions.to(dtype))


@dataclass
class Surfaces:
    """What a grid of rays sees; drawing edits it in place.

    Attributes:
        depth: (H, W) depth, infinite where nothing is hit.
        instance: (H, W) int64 number of the thing, -1 = nothing.
        material: (H, W, 3) material point of that thing.
        rgb: (H, W, 3) shaded colour in [0, 1], or None if not asked for.
    """

    depth: Tensor
    instance: Tensor
    material: Tensor
    rgb: Tensor | None

    def bounds(self) -> tuple[float, float]:
        """Smallest and largest finite depth."""
        finite = self.depth[self.depth.isfinite()]
        return float(finite.min()), float(finite.max())

    def clone(self) -> Surfaces:
        """An independent copy."""
        return Surfaces(self.depth.clone(), self.instance.clone(), self.material.clone(),
                        None if self.rgb is None else self.rgb.clone())


def empty_surfaces(view: View, colored: bool) -> Surfaces:
    """Nothing hit yet."""
    height, width = view.directions.shape[:2]
    zeros = torch.zeros(height, width, 3, dtype=view.directions.dtype)
    depth = torch.full((height, width), float("inf"), dtype=zeros.dtype)
    instance = torch.full((height, width), -1, dtype=torch.int64)
    return Surfaces(depth, instance, zeros, zeros.clone() if colored else None)


def local_to_world(thing: Thing, time: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Linear part (3, 3) and translation (3,) of a thing at `time`."""
    matrix = torch.from_numpy(thing.motion.matrix(time)).to(dtype)
    return matrix[:3, :3], matrix[:3, 3]


def intersect(thing: Thing, origin: Tensor, directions: Tensor, time: float) -> Tensor:
    """Ray parameters (N,) at which world rays (3,), (N, 3) first meet a thing; infinite for a miss."""
    linear, centre = local_to_world(thing, time, directions.dtype)
    inverse = torch.linalg.inv(linear)
    return thing.shape.intersect(inverse @ (origin - centre), directions @ inverse.T, time)


def to_material(thing: Thing, points: Tensor, time: float) -> Tensor:
    """Material points (N, 3) of world surface points (N, 3)."""
    linear, centre = local_to_world(thing, time, points.dtype)
    return thing.shape.material((points - centre) @ torch.linalg.inv(linear).T, time)


def to_world(thing: Thing, material: Tensor, time: float) -> Tensor:
    """World points (N, 3) at `time` of material points (N, 3)."""
    linear, centre = local_to_world(thing, time, material.dtype)
    return thing.shape.place(material, time) @ linear.T + centre


def shade(thing: Thing, material: Tensor, directions: Tensor, footprint: Tensor, time: float) -> Tensor:
    """Colours (N, 3) of a thing's points lit from one side.

    Args:
        thing: what is seen.
        material: (N, 3) material points.
        directions: (N, 3) viewing directions in the world.
        footprint: (N,) width of a sample in world units, across the ray.
        time: when.
    """
    linear, _ = local_to_world(thing, time, material.dtype)
    normals = thing.shape.normals(material, time) @ torch.linalg.inv(linear)
    normals = torch.nn.functional.normalize(normals, dim=-1)
    facing = (normals * torch.nn.functional.normalize(directions, dim=-1)).sum(-1)
    normals = torch.where(facing[:, None] > 0, -normals, normals)
    coordinates = thing.shape.texture_coordinates(material)
    unit = thing.shape.texture_unit() * torch.linalg.det(linear).abs() ** (1 / 3)
    color = thing.texture(coordinates, footprint / (unit * facing.abs().clamp_min(0.15)))
    light = torch.nn.functional.normalize(material.new_tensor(LIGHT), dim=0)
    return (color * (AMBIENT + DIFFUSE * (normals @ light).clamp_min(0))[:, None]).clamp(0, 1)


def screen_box(view: View, thing: Thing, time: float) -> tuple[slice, slice]:
    """Rows and columns of the grid that can see a thing: the rectangle around its projected bounding box."""
    low, high = thing.shape.bounds()
    corners = torch.cartesian_prod(*(torch.tensor([a, b], dtype=torch.float64) for a, b in zip(low, high)))
    linear, centre = local_to_world(thing, time, torch.float64)
    uv, in_front = view.cameras.project(corners @ linear.T + centre, view.frame)
    height, width = view.directions.shape[:2]
    if not in_front.all():
        return slice(0, height), slice(0, width)
    left, top = (uv.amin(0).floor() - 1).clamp_min(0).int().tolist()
    right, bottom = (uv.amax(0).ceil() + 1).clamp_min(0).int().tolist()
    return slice(min(top, height), min(bottom, height)), slice(min(left, width), min(right, width))


def draw(surfaces: Surfaces, view: View, thing: Thing, number: int, time: float) -> None:
    """Draw a thing into `surfaces` (in place) wherever it is nearer than what is there."""
    rows, columns = screen_box(view, thing, time)
    directions = view.directions[rows, columns].reshape(-1, 3)
    if not len(directions):
        return
    distance = intersect(thing, view.origin, directions, time)
    shown = distance < surfaces.depth[rows, columns].reshape(-1)
    if not shown.any():
        return
    area = shown.reshape(surfaces.depth[rows, columns].shape)
    distance, directions = distance[shown], directions[shown]
    material = to_material(thing, view.origin + distance[:, None] * directions, time)
    surfaces.depth[rows, columns][area] = distance
    surfaces.instance[rows, columns][area] = number
    surfaces.material[rows, columns][area] = material
    if surfaces.rgb is not None:
        footprint = distance / view.cameras.focal
        surfaces.rgb[rows, columns][area] = shade(thing, material, directions, footprint, time)


def draw_all(things, view: View, time: float, colored: bool, moving: bool | None = None,
             base: Surfaces | None = None) -> Surfaces:
    """Surfaces of a view.

    Args:
        things: all things of the scene; their position is the instance number.
        view: the rays.
        time: when.
        colored: whether to shade.
        moving: True = moving things only, False = still things only, None = all.
        base: surfaces to draw over (left untouched), or None.
    """
    surfaces = base.clone() if base is not None else empty_surfaces(view, colored)
    for number, thing in enumerate(things):
        if moving is None or thing.moves == moving:
            draw(surfaces, view, thing, number, time)
    return surfaces


def nearest(things, origin: Tensor, directions: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """Depth (N,) and instance (N,) that arbitrary rays (3,), (N, 3) of unit depth meet first."""
    depth = torch.full_like(directions[:, 0], float("inf"))
    instance = torch.full((len(directions),), -1, dtype=torch.int64)
    for number, thing in enumerate(things):
        distance = intersect(thing, origin, directions, time)
        nearer = distance < depth
        depth[nearer], instance[nearer] = distance[nearer], number
    return depth, instance
