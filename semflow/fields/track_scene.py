"""The scene that flow tracks lie in: where its frames see them, and how they lie to the surfaces seen there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.encoders.sampling import nearest_cells
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space

CUE_SCALES = (0.02, 0.1)  # distances to the surface in u on which the cues are most sensitive
CUE_CHANNELS = 5


@dataclass(frozen=True)
class SurfaceCues:
    """What the depth and the motion mask of each frame say, read beside the features.

    Attributes:
        surface_u: (T, H, W) ray parameter of the surface. motion: (T, H, W) float, 1 = moving.
    """

    surface_u: Tensor
    motion: Tensor


@dataclass(frozen=True)
class TrackScene:
    """Geometry of the scene that a track lies in; the cues are None where they are not used."""

    cameras: Cameras
    space: Space
    cues: SurfaceCues | None

    def part(self, frames: slice) -> TrackScene:
        """The same for some frames alone, counted from the first of them."""
        cues = None if self.cues is None else SurfaceCues(self.cues.surface_u[frames], self.cues.motion[frames])
        return TrackScene(self.cameras.part(frames), self.space, cues)


def locate(points: Tensor, scene: TrackScene) -> tuple[Tensor, Tensor]:
    """Project field-space points (F, N, 3), those of each of F frames into its camera, as world points.

    Returns:
        (F, N, 2) pixels, and (F, N) bool: in front and inside the image.
    """
    uv, in_front = scene.cameras.project(scene.space.to_world(points), None)
    return uv, in_front & scene.cameras.inside(uv.detach())


def surface_cues(scene: TrackScene, points: Tensor, uv: Tensor) -> Tensor:
    """How points relate to the surface that their frame shows at their pixel.

    Read at the nearest pixel: between a moving thing and what lies behind it there is no surface to interpolate.

    Args:
        scene: of F frames. points: (F, N, 3) field-space points of each. uv: (F, N, 2) their pixels.

    Returns:
        (F, N, 5): signed distance in u on two scales, nearness, motion, and nearness of a moving surface.
    """
    frames, *shape = scene.cues.motion.shape
    cells = nearest_cells(shape, uv) + shape[0] * shape[1] * torch.arange(frames, device=uv.device)[:, None]
    distance = scene.space.ray_parameter(points, scene.cameras, None) - scene.cues.surface_u.flatten()[cells]
    motion = scene.cues.motion.flatten()[cells]
    near = torch.exp(-(distance / CUE_SCALES[0]).square())
    signed = [torch.tanh(distance / scale) for scale in CUE_SCALES]
    return torch.stack([*signed, near, motion, near * motion], dim=-1)
