"""The one place that converts between world space and the field space the networks live in.

`NdcSpace` suits forward-facing scenes (all cameras look roughly along -z of the re-centred world);
`MetricSpace` suits all others. Both cut the rays to u in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.records import Rays, to_device

NDC_NEAR = 1.0
ROUNDING = 1e-5
NDC_FAR_MARGIN = 1e-3  # z_ndc = 1 is infinitely far: conversions to the world stop just before it


class Space(Protocol):
    """Conversion between world and field space."""

    def to(self, device) -> Space:
        """The same for points on `device`."""

    def to_world(self, points: Tensor) -> Tensor:
        """Field-space points (..., 3) -> world points (..., 3)."""

    def from_world(self, points_world: Tensor) -> Tensor:
        """World points (..., 3) -> field-space points (..., 3)."""

    def cut_rays(self, origins_world: Tensor, directions_world: Tensor) -> tuple[Tensor, Tensor]:
        """World rays (R, 3), (R, 3) -> field-space origins (u = 0) and directions (ending at u = 1)."""

    def ray_parameter(self, points: Tensor, cameras: Cameras, frame: int | None) -> Tensor:
        """u (...) of field-space points (..., 3) on the ray of camera `frame` that passes through them.

        None: points (T, N, 3), each row on rays of its own camera.
        """

    def bounded(self, points: Tensor) -> Tensor:
        """(...) bool: field points (..., 3) that lie no farther than the scene's far bound, with its margin."""

    def begun_at(self, u: float) -> Space:
        """The same space with rays that begin at their parameter u, before 0 or after it; they end where they did."""


@dataclass(frozen=True)
class NdcSpace:
    """Normalised device coordinates of the average camera, near plane 1 (NeRF, appendix C).

    Attributes:
        aspect_x: focal / (W / 2).
        aspect_y: focal / (H / 2).
        u_near: ray parameter of full NDC (0 = near plane) at which rays begin.
        u_far: ray parameter of full NDC (1 = infinity) at which rays end.
        u_bound: that of the scene's far bound, with its margin; rays may end behind it.
    """

    aspect_x: float
    aspect_y: float
    u_near: float = 0.0
    u_far: float = 1.0
    u_bound: float = 1.0

    def to(self, device) -> NdcSpace:
        """Itself: it holds no tensor."""
        return self

    def to_world(self, points: Tensor) -> Tensor:
        """NDC points (..., 3) -> world points (..., 3)."""
        z = 2.0 * NDC_NEAR / (points[..., 2].clamp(max=1.0 - NDC_FAR_MARGIN) - 1.0)
        x = -points[..., 0] * z / self.aspect_x
        y = -points[..., 1] * z / self.aspect_y
        return torch.stack([x, y, z], dim=-1)

    def from_world(self, points_world: Tensor) -> Tensor:
        """World points (..., 3) in front of the average camera -> NDC points (..., 3)."""
        z = points_world[..., 2].clamp(max=-1e-6)
        x = -self.aspect_x * points_world[..., 0] / z
        y = -self.aspect_y * points_world[..., 1] / z
        return torch.stack([x, y, 1.0 + 2.0 * NDC_NEAR / z], dim=-1)

    def cut_rays(self, origins_world: Tensor, directions_world: Tensor) -> tuple[Tensor, Tensor]:
        """World rays -> NDC origins on the plane `u_near` and directions that end at `u_far`."""
        shift = -(NDC_NEAR + origins_world[..., 2]) / directions_world[..., 2]
        on_near = origins_world + shift[..., None] * directions_world
        x_slope = directions_world[..., 0] / directions_world[..., 2] - on_near[..., 0] / on_near[..., 2]
        y_slope = directions_world[..., 1] / directions_world[..., 2] - on_near[..., 1] / on_near[..., 2]
        directions = torch.stack(
            [-self.aspect_x * x_slope, -self.aspect_y * y_slope, torch.full_like(x_slope, 2.0)], dim=-1
        )
        origins = self.from_world(on_near) + self.u_near * directions
        return origins, directions * (self.u_far - self.u_near)

    def ray_parameter(self, points: Tensor, cameras: Cameras, frame: int | None) -> Tensor:
        """u (...) of NDC points (..., 3): linear in z, the same for every camera."""
        return ((points[..., 2] + 1.0) / 2.0 - self.u_near) / (self.u_far - self.u_near)

    def bounded(self, points: Tensor) -> Tensor:
        """(...) bool of NDC points (..., 3); all points of rays that are cut to the bounds."""
        return (points[..., 2] + 1.0) / 2.0 <= self.u_bound + ROUNDING

    def begun_at(self, u: float) -> NdcSpace:
        """See `Space`; before the near plane the formulas hold as well."""
        return replace(self, u_near=self.u_near + u * (self.u_far - self.u_near))


@dataclass(frozen=True)
class MetricSpace:
    """World space moved and scaled so that the sampled volume fits [-1, 1]^3.

    Attributes:
        centre: (3,) world point at the origin of field space.
        scale: world units per field unit.
        near: depth at which rays begin, world units.
        far: depth at which rays end, world units.
    """

    centre: Tensor
    scale: float
    near: float
    far: float

    def to(self, device) -> MetricSpace:
        """Copy on `device`; no GPU is waited for to bring the centre to its points."""
        return to_device(self, device)

    def to_world(self, points: Tensor) -> Tensor:
        """Field points (..., 3) -> world points (..., 3)."""
        return points * self.scale + self.centre.to(points.device)

    def from_world(self, points_world: Tensor) -> Tensor:
        """World points (..., 3) -> field points (..., 3)."""
        return (points_world - self.centre.to(points_world.device)) / self.scale

    def cut_rays(self, origins_world: Tensor, directions_world: Tensor) -> tuple[Tensor, Tensor]:
        """World rays with unit axis depth -> field origins at `near`, directions that end at `far`."""
        origins = self.from_world(origins_world + self.near * directions_world)
        return origins, directions_world * ((self.far - self.near) / self.scale)

    def ray_parameter(self, points: Tensor, cameras: Cameras, frame: int | None) -> Tensor:
        """u (...) of field points (..., 3): linear in the depth along the axis of the camera."""
        return (cameras.depth(self.to_world(points), frame) - self.near) / (self.far - self.near)

    def bounded(self, points: Tensor) -> Tensor:
        """(...) bool: all of them, since rays end at the bound."""
        return torch.ones_like(points[..., 0], dtype=torch.bool)

    def begun_at(self, u: float) -> MetricSpace:
        """See `Space`."""
        return replace(self, near=self.near + u * (self.far - self.near))


def make_space(kind: str, cameras: Cameras, clip_to_bounds: bool) -> Space:
    """Field space of a scene.

    Args:
        kind: "ndc" or "metric".
        cameras: the training cameras with their near and far bounds.
        clip_to_bounds: in NDC, sample only between the scene's bounds (10 % margin) instead of from the
            near plane to infinity.
    """
    near, far = float(cameras.near.min()), float(cameras.far.max())
    if kind == "ndc":
        bound = 1.0 - NDC_NEAR / (1.1 * far)
        limits = (max(0.0, 1.0 - NDC_NEAR / (0.9 * near)), bound) if clip_to_bounds else (0.0, 1.0)
        return NdcSpace(2 * cameras.focal / cameras.width, 2 * cameras.focal / cameras.height, *limits, bound)
    corners = torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [1, 1]]) * torch.tensor([float(cameras.width), float(cameras.height)])
    ends = [cameras.center(i) + d * cameras.directions(i, corners.to(cameras.c2w)) for i in range(len(cameras)) for d in (near, far)]
    points = torch.cat(ends).cpu()
    low, high = points.min(0).values, points.max(0).values
    return MetricSpace(centre=((low + high) / 2).to(cameras.c2w.device), scale=float((high - low).max() / 2), near=near, far=far)


def camera_rays(cameras: Cameras, space: Space, frame: int, uv: Tensor) -> Rays:
    """Rays of camera `frame` through pixels uv (R, 2), cut to u in [0, 1] in field space."""
    directions_world = cameras.directions(frame, uv)
    origins_world = cameras.center(frame).expand_as(directions_world)
    origins, directions = space.cut_rays(origins_world, directions_world)
    view_dirs = torch.nn.functional.normalize(directions_world, dim=-1)
    return Rays(origins, directions, view_dirs, uv)
