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

WIDTH = 96  # pixels of the small view that tells where things are
SOLID = 0.5  # opacity of a thing along a ray, from which on it is there
RIM = 1  # pixels of the small view around a thing, which may still be its rim


@dataclass(frozen=True)
class Outlines:
    """Where I things are in a view.

    Attributes:
        near: (I, h, w) bool, they are at this pixel of a small view, or next to it.
        scale: (2,) pixels of the small view to one of the view, along x and y.
    """

    near: Tensor
    scale: Tensor

    def around(self, uv: Tensor) -> Tensor:
        """(I, R) bool: pixels uv (R, 2) of the view that lie on a thing or at its rim."""
        height, width = self.near.shape[1:]
        x, y = (uv * self.scale).long().unbind(-1)
        return self.near[:, y.clamp(0, height - 1), x.clamp(0, width - 1)]


def find_outlines(solid: Callable[[SampledRays], Tensor], cameras: Cameras, camera: int, space: Space, samples: int,
                  at_once: int) -> Outlines:
    """Look for things in a small view.

    Args:
        solid: rays -> (I, R) bool, things that are there on these rays. cameras, camera: the view.
        space: of its rays. samples: per ray. at_once: rays.
    """
    width = min(WIDTH, cameras.width)
    small, found = cameras.resized(max(1, round(cameras.height * width / cameras.width)), width), []
    for uv in small.pixels().flatten(0, 1).split(at_once):
        rays = camera_rays(small, space, camera, uv)
        u = stratified(len(rays), samples, None, uv.device)
        found.append(solid(SampledRays(rays, u, sample_distances(u, rays.directions))))
    there = torch.cat(found, dim=1).view(-1, small.height, small.width)
    near = F.max_pool2d(there[None].float(), 2 * RIM + 1, stride=1, padding=RIM)[0] > 0
    return Outlines(near, near.new_tensor([small.width / cameras.width, small.height / cameras.height], dtype=torch.float32))
