"""Ray batches by index arithmetic: all pixels and targets live on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.data.supervision import Supervision
from semflow.geometry.spaces import camera_rays
from semflow.records import RayBatch, SceneData


@dataclass(frozen=True)
class Region:
    """Flat indices of pixels of a frame.

    Attributes:
        all: (M,). labelled: (L,) those of them that have a label.
    """

    all: Tensor
    labelled: Tensor


class RaySampler:
    """Draws rays of one random frame of a scene.

    The frames, and where something moves in them, are known to the host: nothing here waits for a GPU.

    Args:
        scene: the data, on the device of the model.
        supervision: its targets.
        rays: rays per batch.
        static_only: rays of the static region only; otherwise half static, half dynamic. A frame that lacks one
            of the two regions gives all its rays from the other.
        labelled: share of the rays of a region that are drawn from its labelled pixels alone, if it has any; for labels on
            few pixels, of which a step would see next to none.
    """

    def __init__(self, scene: SceneData, supervision: Supervision, rays: int, static_only: bool, labelled: float = 0.0):
        self.scene, self.supervision, self.rays, self.static_only = scene, supervision, rays, static_only
        self.labelled = labelled
        motion, known = scene.motion.flatten(1), scene.labels.flatten(1) >= 0  # (T, H*W)
        self.static_pixels = regions(~motion, known)
        self.moving_pixels = regions(motion, known)
        self.surface_metric = supervision.surface_metric.tolist()
        self.pixels = scene.cameras.pixels().flatten(0, 1)

    def frames(self, host: torch.Generator) -> tuple[int, int]:
        """A random frame and the frame of its static features, drawn on the CPU."""
        frame = integer(self.scene.frames, host)
        return frame, self.static_source(frame, host)

    def static_source(self, frame: int, host: torch.Generator) -> int:
        """A random *other* frame for the static features, so that the current foreground cannot leak in.

        A scene of one frame has no other.
        """
        frames = self.scene.frames
        return (frame + 1 + integer(frames - 1, host)) % frames if frames > 1 else frame

    def of_frame(self, frame: int, source: int, generator: torch.Generator) -> RayBatch:
        """A batch of one frame whose static features come from the frame `source`."""
        static, moving = self.static_pixels[frame], self.moving_pixels[frame]
        if (self.static_only and len(static.all)) or not len(moving.all):
            still = self.rays
        else:
            still = self.rays - self.rays // 2 if len(static.all) else 0
        drawn = self.of_region(static, still, generator) + self.of_region(moving, self.rays - still, generator)
        return self.gather(frame, source, still, torch.cat(drawn))

    def of_region(self, region: Region, count: int, generator: torch.Generator) -> list[Tensor]:
        """`count` pixels of a region: labelled ones, then any."""
        labelled = round(self.labelled * count) if len(region.labelled) else 0
        return [draw(region.labelled, labelled, generator), draw(region.all, count - labelled, generator)]

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


def regions(inside: Tensor, known: Tensor) -> list[Region]:
    """The pixels of each of T frames that are `inside` (T, H*W) bool, and those that are also `known`."""
    return [Region(*(mask.nonzero()[:, 0] for mask in (own, own & labels))) for own, labels in zip(inside, known)]


def draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) entries of candidates (M,), drawn uniformly with replacement."""
    if not count:
        return candidates[:0]
    index = torch.randint(len(candidates), (count,), generator=generator, device=candidates.device)
    return candidates[index]


def integer(count: int, host: torch.Generator) -> int:
    """A number from 0 to count - 1, drawn on the host."""
    return int(torch.randint(count, (1,), generator=host))
