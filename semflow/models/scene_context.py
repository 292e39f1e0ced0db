"""A scene as the networks see it: its size, its geometry, and what the encoders say of its frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semflow.encoders.features import FrameFeatures
from semflow.fields.flow import Timeline
from semflow.fields.track_scene import SurfaceCues
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space


@dataclass(frozen=True)
class SceneShape:
    """What the sizes of a model depend on in a scene.

    Attributes:
        frames: T.
        box: (2, 3) lower and upper corner of the sampled volume in field space.
    """

    frames: int
    box: Tensor


@dataclass(frozen=True)
class SceneContext:
    """A scene as the fields see it: geometry and features.

    Attributes:
        index: number of the scene in the model.
        timeline: its T frames; where it is a part of a scene, those of the part, and their place in the scene.
        cameras, space: training cameras and field space.
        rgb: (T, H, W, 3) frames, read by a jointly trained encoder.
        video: frozen video features, None if the encoder is trained jointly.
        code: (Z0,) raw clip code, before the MLP.
        image: frozen image features of the static branch, None without.
        cues: surface cues of the dynamic branch, None without.
    """

    index: int
    timeline: Timeline
    cameras: Cameras
    space: Space
    rgb: Tensor
    video: FrameFeatures | None
    code: Tensor
    image: FrameFeatures | None
    cues: SurfaceCues | None = None

    @property
    def frames(self) -> int:
        """Number of its frames."""
        return self.timeline.frames

    def around(self, frame: int, source: int, reach: int) -> tuple[SceneContext, int]:
        """The part of a scene that rays of a frame can see: up to `reach` frames to either side, and the frame `source`.

        What the host knows of it is the same for all frames that are not near an end of the scene.

        Returns:
            The scene of these frames, after which `source` is one more camera and one more frame of the image features
            (all of which are its own); and the place of the frame among them.
        """
        near, last = slice(max(0, frame - reach), min(self.frames, frame + reach + 1)), slice(source, source + 1)
        start = torch.full((), near.start, dtype=torch.float64, device=self.rgb.device)

        def joined(values: Tensor) -> Tensor:
            return torch.cat([values[near], values[last]])

        def of_source(maps: Tensor) -> Tensor:
            return maps[last].expand(near.stop - near.start + 1, *maps.shape[1:])  # a view: no other frame's are read

        cameras = self.cameras
        part = replace(
            self,
            timeline=Timeline(near.stop - near.start, self.frames, start),
            cameras=replace(cameras, c2w=joined(cameras.c2w), near=joined(cameras.near), far=joined(cameras.far)),
            rgb=self.rgb[near] if self.video is None else self.rgb[:0],  # for an encoder that is trained
            video=None if self.video is None else replace(self.video, maps=self.video.maps[near]),
            image=None if self.image is None else replace(self.image, maps=of_source(self.image.maps)),
            cues=None if self.cues is None else SurfaceCues(self.cues.surface_u[near], self.cues.motion[near]),
        )
        return part, frame - near.start


def scene_box(cameras: Cameras, space: Space) -> Tensor:
    """(2, 3) box around all training rays in field space."""
    corners = torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [1, 1]], device=cameras.c2w.device)
    corners = corners * torch.tensor([float(cameras.width), float(cameras.height)], device=cameras.c2w.device)
    ends = []
    for frame in range(len(cameras)):
        directions = cameras.directions(frame, corners)
        origins, along = space.cut_rays(cameras.center(frame).expand_as(directions), directions)
        ends += [origins, origins + along]
    points = torch.cat(ends)
    return torch.stack([points.min(0).values, points.max(0).values])
