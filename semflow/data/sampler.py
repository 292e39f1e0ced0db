"""Ray batches by index arithmetic: all pixels and targets live on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.data.supervision import Supervision
from semflow.geometry.spaces import camera_rays
from semflow.records import RayBatch, SceneData


class RaySampler:
    """Draws rays of one random frame of a scene.

    Args:
        scene: the data, on the device of the model.
        supervision: its targets.
        rays: rays per batch.
        static_only: rays of the static region only; otherwise half static, half dynamic. A frame that lacks one
            of the two regions gives all its rays from the other.
    """

    def __init__(self, scene: SceneData, supervision: Supervision, rays: int, static_only: bool):
        self.scene, self.supervision, self.rays, self.static_only = scene, supervision, rays, static_only
        motion = scene.motion.flatten(1)  # (T, H*W)
        self.static_pixels = [(~mask).nonzero()[:, 0] for mask in motion]
        self.moving_pixels = [mask.nonzero()[:, 0] for mask in motion]
        self.pixels = scene.cameras.pixels().flatten(0, 1)

    def sample(self, generator: torch.Generator) -> RayBatch:
        """A batch of one random frame; random numbers come from `generator` alone."""
        frame = int(torch.randint(self.scene.frames, (1,), generator=generator, device=generator.device))
        return self.gather(frame, self.choose(frame, generator))

    def choose(self, frame: int, generator: torch.Generator) -> Tensor:
        """(R,) flat pixel indices."""
        static, moving = self.static_pixels[frame], self.moving_pixels[frame]
        if (self.static_only and len(static)) or not len(moving):
            return draw(static, self.rays, generator)
        if not len(static):
            return draw(moving, self.rays, generator)
        half = self.rays // 2
        return torch.cat([draw(static, self.rays - half, generator), draw(moving, half, generator)])

    def gather(self, frame: int, index: Tensor) -> RayBatch:
        """The batch of flat pixel indices (R,) of a frame."""
        scene, targets = self.scene, self.supervision

        def pick(maps: Tensor) -> Tensor:
            return maps[frame].flatten(0, 1)[index]

        count = len(index)
        return RayBatch(
            rays=camera_rays(scene.cameras, scene.space, frame, self.pixels[index]),
            frame=frame,
            rgb=pick(scene.rgb),
            labels=pick(scene.labels),
            moving=pick(scene.motion),
            color_valid=targets.color_valid[frame].expand(count),
            flow={1: pick(scene.flow_forward), -1: pick(scene.flow_backward)},
            flow_valid={1: pick(scene.flow_forward_valid), -1: pick(scene.flow_backward_valid)},
            disparity=pick(scene.disparity),
            surface_u=pick(targets.surface_u),
            surface_metric=targets.surface_metric[frame].expand(count),
            triangulated_u=pick(targets.triangulated_u),
            triangulated_valid=pick(targets.triangulated_valid),
        )


def draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) entries of candidates (M,), drawn uniformly with replacement."""
    index = torch.randint(len(candidates), (count,), generator=generator, device=candidates.device)
    return candidates[index]
