"""Ray batches by index arithmetic: all pixels and targets live on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.data.supervision import Supervision
from semflow.geometry.spaces import camera_rays
from semflow.records import RayBatch, SceneData


class RaySampler:
    """Draws rays of one random frame of a scene.

    The frames, and where something moves in them, are known to the host: nothing here waits for a GPU.

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
        self.surface_metric = supervision.surface_metric.tolist()
        self.pixels = scene.cameras.pixels().flatten(0, 1)

    def sample(self, host: torch.Generator, generator: torch.Generator) -> RayBatch:
        """A batch of one random frame; the frames come from `host`, on the CPU, the pixels from `generator`."""
        frame = integer(self.scene.frames, host)
        return self.of_frame(frame, self.static_source(frame, host), generator)

    def static_source(self, frame: int, host: torch.Generator) -> int:
        """A random *other* frame for the static features, so that the current foreground cannot leak in.

        A scene of one frame has no other.
        """
        frames = self.scene.frames
        return (frame + 1 + integer(frames - 1, host)) % frames if frames > 1 else frame

    def of_frame(self, frame: int, source: int, generator: torch.Generator) -> RayBatch:
        """A batch of one frame whose static features come from the frame `source`."""
        static, moving = self.static_pixels[frame], self.moving_pixels[frame]
        if (self.static_only and len(static)) or not len(moving):
            still = self.rays
        else:
            still = self.rays - self.rays // 2 if len(static) else 0
        drawn = [draw(static, still, generator), draw(moving, self.rays - still, generator)]
        return self.gather(frame, source, still, torch.cat(drawn))

    def gather(self, frame: int, source: int, still: int, index: Tensor) -> RayBatch:
        """The batch of flat pixel indices (R,) of a frame, of which the first `still` are static ones."""
        scene, targets = self.scene, self.supervision

        def pick(maps: Tensor) -> Tensor:
            return maps[frame].flatten(0, 1)[index]

        count = len(index)
        return RayBatch(
            rays=camera_rays(scene.cameras, scene.space, frame, self.pixels[index]),
            frame=frame,
            source=source,
            still=still,
            rgb=pick(scene.rgb),
            labels=pick(scene.labels),
            color_valid=targets.color_valid[frame].expand(count),
            flow={1: pick(scene.flow_forward), -1: pick(scene.flow_backward)},
            flow_valid={1: pick(scene.flow_forward_valid), -1: pick(scene.flow_backward_valid)},
            disparity=pick(scene.disparity),
            surface_u=pick(targets.surface_u),
            surface_metric=self.surface_metric[frame],
            triangulated_u=pick(targets.triangulated_u),
            triangulated_valid=pick(targets.triangulated_valid),
        )


def draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) entries of candidates (M,), drawn uniformly with replacement."""
    if not count:
        return candidates[:0]
    index = torch.randint(len(candidates), (count,), generator=generator, device=candidates.device)
    return candidates[index]


def integer(count: int, host: torch.Generator) -> int:
    """A number from 0 to count - 1, drawn on the host."""
    return int(torch.randint(count, (1,), generator=host))
