"""Pinhole cameras: pixels, rays and projections.

Camera frame: OpenGL/NeRF (x right, y up, looking along -z). Pixels: x right, y down, pixel centres at
half-integers, principal point at the image centre, square pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semflow.records import to_device

MIN_DEPTH = 1e-4  # a point nearer than this (world units) counts as behind the camera


def pixel_centres(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(H, W, 2) centres of all pixels of an image."""
    y, x = torch.meshgrid(torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij")
    return torch.stack([x, y], dim=-1)


@dataclass(frozen=True)
class Cameras:
    """T cameras that share one image size and focal length.

    Attributes:
        c2w: (T, 3, 4) camera-to-world matrices [R | centre].
        focal: focal length in pixels of an image of `height` x `width`.
        height: image height in pixels.
        width: image width in pixels.
        near: (T,) nearest depth of interest in world units.
        far: (T,) farthest depth of interest in world units.
    """

    c2w: Tensor
    focal: float
    height: int
    width: int
    near: Tensor
    far: Tensor

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def to(self, device) -> Cameras:
        """Copy with every tensor on `device`."""
        return to_device(self, device)

    def part(self, frames: slice) -> Cameras:
        """Some of the cameras, counted from the first of them."""
        return replace(self, c2w=self.c2w[frames], near=self.near[frames], far=self.far[frames])

    def resized(self, height: int, width: int) -> Cameras:
        """The same cameras with images of another size (the focal length scales with the width)."""
        return replace(self, focal=self.focal * width / self.width, height=height, width=width)

    def narrowed(self, width: int) -> Cameras:
        """Same poses and field of view, with images of the same shape that are at most `width` pixels wide."""
        width = min(width, self.width)
        return self.resized(max(1, round(self.height * width / self.width)), width)

    def pixels(self) -> Tensor:
        """(H, W, 2) centres of all pixels."""
        return pixel_centres(self.height, self.width, self.c2w.device)

    def directions(self, frame: int, uv: Tensor) -> Tensor:
        """World directions (R, 3) through pixels uv (R, 2), scaled to unit depth along the axis."""
        x = (uv[..., 0] - 0.5 * self.width) / self.focal
        y = -(uv[..., 1] - 0.5 * self.height) / self.focal
        local = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
        return local @ self.c2w[frame, :, :3].T

    def center(self, frame: int) -> Tensor:
        """(3,) world position of the camera."""
        return self.c2w[frame, :, 3]

    def to_camera(self, points_world: Tensor, frame: int | None) -> Tensor:
        """World points (..., 3) in the frame of camera `frame`; None: points (T, N, 3), each row's in that of its own camera.

        Raises:
            ValueError: there are not as many rows as cameras.
        """
        if frame is None:
            if len(points_world) != len(self):
                raise ValueError(f"points of {len(points_world)} cameras, but {len(self)} cameras")
            return (points_world - self.c2w[:, None, :, 3]) @ self.c2w[:, :, :3]
        return (points_world - self.center(frame)) @ self.c2w[frame, :, :3]

    def depth(self, points_world: Tensor, frame: int | None) -> Tensor:
        """Depth (...) of world points along the axis of a camera (see `to_camera`), positive in front."""
        return -self.to_camera(points_world, frame)[..., 2]

    def project(self, points_world: Tensor, frame: int | None) -> tuple[Tensor, Tensor]:
        """Project world points into a camera.

        Args:
            points_world: (..., 3) world points (never NDC).
            frame: camera index; None: points (T, N, 3), each row into its own camera.

        Returns:
            uv (..., 2) pixels, and in_front (...) bool. The uv of points behind the camera are finite
            but meaningless.
        """
        local = self.to_camera(points_world, frame)
        depth = -local[..., 2]
        in_front = depth > MIN_DEPTH
        safe = torch.where(in_front, depth, torch.ones_like(depth))
        u = local[..., 0] / safe * self.focal + 0.5 * self.width
        v = -local[..., 1] / safe * self.focal + 0.5 * self.height
        return torch.stack([u, v], dim=-1), in_front

    def inside(self, uv: Tensor) -> Tensor:
        """(...) bool: the pixels uv (..., 2) lie in the image."""
        return (uv[..., 0] >= 0) & (uv[..., 0] <= self.width) & (uv[..., 1] >= 0) & (uv[..., 1] <= self.height)

    def lift(self, uv: Tensor, depth: Tensor, frame: int) -> Tensor:
        """World points (..., 3) at pixels uv (..., 2) and axis depths (...)."""
        return self.center(frame) + depth[..., None] * self.directions(frame, uv)
