"""Where a view shows the things of a layer: haze that hangs beside their outlines there is no part of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space, camera_rays
from semflow.rendering.compositing import sample_distances
from semflow.rendering.samples import stratified
from semflow.rendering.static_rays import SampledRays

WIDTH = 96  # pixels of the small views that tell where things are
SOLID = 0.5  # opacity along a ray, from which on a thing is there: haze has less
FAINT = 0.2  # the same in views in which a thing has nowhere so much
RIM = 1  # pixels of a small view around a thing, which may still be its rim


@dataclass(frozen=True)
class Outlines:
    """Where B bodies are in a view.

    Attributes:
        near: (B, h, w) bool, they are at this pixel of a small view, or next to it. cameras: of the view itself.
        least: (B, 1) opacity along a ray from which on they are there.
    """

    near: Tensor
    cameras: Cameras
    least: Tensor

    def around(self, uv: Tensor) -> Tensor:
        """(B, R) bool: pixels uv (R, 2) of the view that lie on a body or at its rim."""
        height, width = self.near.shape[1:]
        # the small view has the same middle and the same field of view along x
        off = (uv - uv.new_tensor([self.cameras.width, self.cameras.height]) / 2) * (width / self.cameras.width)
        x, y = (off + uv.new_tensor([width, height]) / 2).floor().long().unbind(-1)
        return self.near[:, y.clamp(0, height - 1), x.clamp(0, width - 1)]


def small_view(cameras: Cameras) -> Cameras:
    """The same cameras with few pixels."""
    return cameras.narrowed(WIDTH)


def find_outlines(opacity: Callable[[SampledRays], Tensor], cameras: Cameras, camera: int, space: Space, samples: int,
                  at_once: int) -> Outlines:
    """Look for bodies in a small view.

    Args:
        opacity: rays -> (B, R) opacity of the bodies along them. cameras, camera: the view.
        space: of its rays. samples: per ray. at_once: rays.
    """
    small, found = small_view(cameras), []
    for uv in small.pixels().flatten(0, 1).split(at_once):
        rays = camera_rays(small, space, camera, uv)
        u = stratified(len(rays), samples, None, uv.device)
        found.append(opacity(SampledRays(rays, u, sample_distances(u, rays.directions))))
    along = torch.cat(found, dim=1)
    least = torch.where(along.amax(1, keepdim=True) >= SOLID, SOLID, FAINT)
    there = (along >= least).view(-1, small.height, small.width)
    return Outlines(F.max_pool2d(there[None].float(), 2 * RIM + 1, stride=1, padding=RIM)[0] > 0, cameras, least)
