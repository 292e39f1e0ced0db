"""Analytic shapes in their own local frame: where a ray meets them, and which material point it meets.

A *material* point (N, 3) names a spot of the surface for all times: `place` says where it lies in the local
frame at a time. For rigid shapes both are the same point; a waving flag deforms inside its local frame.
Rays keep their parametrisation: `point = origin + distance * direction` with directions of any length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

MISS = float("inf")
MIN_DISTANCE = 1e-3  # nearer crossings belong to the surface the ray starts on
MARCH_STEPS = 40
BISECTIONS = 24


class Shape(Protocol):
    """A surface in its local frame."""

    def bounds(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lower and upper corner of a local box that holds the surface at all times."""

    def intersect(self, origin: Tensor, directions: Tensor, time: float) -> Tensor:
        """Ray parameter (N,) of the first crossing of local rays (3,), (N, 3); infinite where there is none."""

    def material(self, points: Tensor, time: float) -> Tensor:
        """Material points (N, 3) of local surface points (N, 3) at `time`."""

    def place(self, material: Tensor, time: float) -> Tensor:
        """Local points (N, 3) of material points (N, 3) at `time`."""

    def normals(self, material: Tensor, time: float) -> Tensor:
        """Local normals (N, 3), of any length, at material points (N, 3)."""

    def texture_coordinates(self, material: Tensor) -> Tensor:
        """Coordinates (N, 3) at which textures are read; flat faces vary in the first two only."""

    def texture_unit(self) -> float:
        """Local length of one unit of the texture coordinates."""


class Rigid:
    """Shapes whose material points are their local points."""

    def material(self, points: Tensor, time: float) -> Tensor:
        """The local points themselves."""
        return points

    def place(self, material: Tensor, time: float) -> Tensor:
        """The material points themselves."""
        return material

    def texture_coordinates(self, material: Tensor) -> Tensor:
        """The material points themselves: solid texture."""
        return material

    def texture_unit(self) -> float:
        """1: textures are read at local points."""
        return 1.0


@dataclass(frozen=True)
class Sphere(Rigid):
    """The unit sphere; an affine motion makes it a ball of any size or an ellipsoid."""

    def bounds(self):
        """Corners of the unit box."""
        return (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)

    def intersect(self, origin: Tensor, directions: Tensor, time: float) -> Tensor:
        """Nearer root of |origin + s * direction| = 1 (N,)."""
        a = (directions * directions).sum(-1)
        half_b = directions @ origin
        discriminant = half_b * half_b - a * (origin @ origin - 1.0)
        distance = (-half_b - discriminant.clamp_min(0).sqrt()) / a
        return torch.where((discriminant > 0) & (distance > MIN_DISTANCE), distance, MISS)

    def normals(self, material: Tensor, time: float) -> Tensor:
        """The points of a unit sphere are its normals."""
        return material


def slab_distances(origin: Tensor, directions: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit parameters (N,), (N,) of rays through the box low..high; a miss has entry > exit."""
    safe = torch.where(directions.abs() < 1e-12, torch.full_like(directions, 1e-12), directions)
    first, second = (low - origin) / safe, (high - origin) / safe
    return torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)


@dataclass(frozen=True)
class Box(Rigid):
    """A box centred at the origin, `half` = half its edge lengths."""

    half: tuple[float, float, float]

    def bounds(self):
        """Its two corners."""
        return tuple(-h for h in self.half), self.half

    def intersect(self, origin: Tensor, directions: Tensor, time: float) -> Tensor:
        """Slab test (N,)."""
        half = directions.new_tensor(self.half)
        entry, leave = slab_distances(origin, directions, -half, half)
        return torch.where((entry < leave) & (entry > MIN_DISTANCE), entry, MISS)

    def normals(self, material: Tensor, time: float) -> Tensor:
        """Axis of the face that holds the point."""
        relative = material / material.new_tensor(self.half)
        axis = relative.abs().argmax(-1, keepdim=True)
        return torch.zeros_like(material).scatter(-1, axis, relative.gather(-1, axis).sign())

    def texture_coordinates(self, material: Tensor) -> Tensor:
        """(N, 3): position on the face in [-1, 1]^2, then a number that tells the six faces apart."""
        relative = material / material.new_tensor(self.half)
        axis = relative.abs().argmax(-1)
        first = torch.where(axis == 0, relative[:, 2], relative[:, 0])
        second = torch.where(axis == 1, relative[:, 2], relative[:, 1])
        side = relative.gather(-1, axis[:, None])[:, 0] > 0
        face = 2.0 * axis + side
        return torch.stack([first, second, 7.5 * face.to(material.dtype)], dim=-1)

    def texture_unit(self) -> float:
        """A face spans two units."""
        return min(self.half)


@dataclass(frozen=True)
class Quad(Rigid):
    """A rectangle in the plane z = 0, `half` = half its width and height."""

    half: tuple[float, float]

    def bounds(self):
        """Its two corners."""
        return (-self.half[0], -self.half[1], 0.0), (self.half[0], self.half[1], 0.0)

    def intersect(self, origin: Tensor, directions: Tensor, time: float) -> Tensor:
        """Crossing of the plane (N,), infinite outside the rectangle."""
        slope = directions[:, 2]
        distance = -origin[2] / torch.where(slope.abs() < 1e-12, torch.full_like(slope, 1e-12), slope)
        points = origin[:2] + distance[:, None] * directions[:, :2]
        inside = (points.abs() <= directions.new_tensor(self.half)).all(-1)
        return torch.where(inside & (distance > MIN_DISTANCE), distance, MISS)

    def normals(self, material: Tensor, time: float) -> Tensor:
        """+z everywhere."""
        return torch.zeros_like(material) + material.new_tensor([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Flag:
    """A waving sheet: z = amplitude * ((1 + x/half_x) / 2) * sin(wave) over the rectangle `half` in x, y.

    The edge x = -half_x is fastened; the wave runs towards the free edge once every `period` frames.
    Material points are (x, y, 0).
    """

    half: tuple[float, float]
    amplitude: float
    waves: float
    period: float

    def bounds(self):
        """Corners that hold every phase of the wave."""
        return (-self.half[0], -self.half[1], -self.amplitude), (self.half[0], self.half[1], self.amplitude)

    def height(self, x: Tensor, y: Tensor, time: float) -> tuple[Tensor, Tensor, Tensor]:
        """Height z of the sheet and its slopes along x and y, each of the shape of x."""
        rate = math.pi * self.waves / self.half[0]
        skew = 0.4 * rate
        phase = rate * x + skew * y - 2 * math.pi * time / self.period
        grip = self.amplitude * 0.5 * (1 + x / self.half[0])
        sine, cosine = torch.sin(phase), torch.cos(phase)
        slope_x = self.amplitude * 0.5 / self.half[0] * sine + grip * rate * cosine
        return grip * sine, slope_x, grip * skew * cosine

    def _above(self, origin: Tensor, directions: Tensor, distance: Tensor, time: float) -> Tensor:
        """Signed height (...) of ray points over the sheet."""
        points = origin + distance[..., None] * directions
        return points[..., 2] - self.height(points[..., 0], points[..., 1], time)[0]

    def intersect(self, origin: Tensor, directions: Tensor, time: float) -> Tensor:
        """March through the bounding box, then halve the interval of the first change of side (N,)."""
        low, high = (directions.new_tensor(corner) for corner in self.bounds())
        entry, leave = slab_distances(origin, directions, low, high)
        entry = entry.clamp_min(MIN_DISTANCE)
        distance = torch.full_like(entry, MISS)
        inside = (entry < leave).nonzero()[:, 0]
        if not len(inside):
            return distance
        rays, entry, leave = directions[inside], entry[inside, None], leave[inside, None]
        steps = entry + (leave - entry) * torch.linspace(0, 1, MARCH_STEPS, dtype=rays.dtype)  # (M, steps)
        side = self._above(origin, rays[:, None], steps, time) > 0
        crossing = side[:, 1:] != side[:, :-1]
        crossed, first = crossing.any(-1), crossing.int().argmax(-1, keepdim=True)
        near, far = steps.gather(-1, first)[:, 0], steps.gather(-1, first + 1)[:, 0]
        start = side.gather(-1, first)[:, 0]
        for _ in range(BISECTIONS):
            middle = 0.5 * (near + far)
            same = (self._above(origin, rays, middle, time) > 0) == start
            near, far = torch.where(same, middle, near), torch.where(same, far, middle)
        distance[inside[crossed]] = (0.5 * (near + far))[crossed]
        return distance

    def material(self, points: Tensor, time: float) -> Tensor:
        """(x, y, 0): the sheet moves along z only."""
        return points * points.new_tensor([1.0, 1.0, 0.0])

    def place(self, material: Tensor, time: float) -> Tensor:
        """The sheet's point over (x, y)."""
        x, y = material[..., 0], material[..., 1]
        return torch.stack([x, y, self.height(x, y, time)[0]], dim=-1)

    def normals(self, material: Tensor, time: float) -> Tensor:
        """(-dz/dx, -dz/dy, 1)."""
        _, slope_x, slope_y = self.height(material[..., 0], material[..., 1], time)
        return torch.stack([-slope_x, -slope_y, torch.ones_like(slope_x)], dim=-1)

    def texture_coordinates(self, material: Tensor) -> Tensor:
        """The material points themselves."""
        return material

    def texture_unit(self) -> float:
        """1: textures are read at material points."""
        return 1.0
