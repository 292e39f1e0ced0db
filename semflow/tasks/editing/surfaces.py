"""What the training cameras see of a scene, as its regions are told by it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space
from semflow.rendering.model_renderer import ModelRenderer
from semflow.rendering.outlines import RIM, small_view

CELLS = 48  # per axis: the grid that regions are found in, whatever the renderer's
BEHIND = 2.0  # cells behind the surface that a camera sees, in which something still counts as seen
THROUGH = 0.5  # cells behind that surface, up to which a camera says what is there: the surface is known no better


@dataclass(frozen=True)
class Sight:
    """Where a camera sees N points.

    Attributes:
        y, x: (N,) int64 rows and columns, clamped to the image. behind: (N,) how far (in u) they lie behind what it sees there.
        visible: (N,) bool, they are in its view.
    """

    y: Tensor
    x: Tensor
    behind: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Surfaces:
    """What the training cameras see at their own times.

    Attributes:
        u: (T, h, w) ray parameters. labels: (T, h, w) classes. cameras: of these small views. space: the field space.
    """

    u: Tensor
    labels: Tensor
    cameras: Cameras
    space: Space

    def show(self, points: Tensor, frame: Tensor) -> Tensor:
        """(N,) bool: points (N, 3) that are not behind what the cameras of their frames (N,) see."""
        shown = torch.zeros_like(frame, dtype=torch.bool)
        for number in frame.unique().tolist():
            own = frame == number
            sight = self.sight(points[own], number)
            shown[own] = sight.visible & (sight.behind < BEHIND / CELLS)
        return shown

    def hide(self, points: Tensor, label: int, frame: int) -> Tensor:
        """(N,) bool: points (N, 3) that lie behind what the camera of a frame sees of a class."""
        sight = self.sight(points, frame)
        return sight.visible & (sight.behind > 0) & (self.labels[frame, sight.y, sight.x] == label)

    def hide_from_all(self, points: Tensor, label: int, frame: int) -> Tensor:
        """The same of any camera, for what does not move."""
        return torch.stack([self.hide(points, label, number) for number in range(len(self.cameras))]).any(0)

    def deny(self, points: Tensor, label: int, frame: int) -> Tensor:
        """(N,) bool: points (N, 3) that the camera of a frame looks through, to where nothing of a class is near.

        What is too thin for these small views is denied nowhere.
        """
        sight = self.sight(points, frame)
        own = self.labels[frame] == label
        near = F.max_pool2d(own[None].float(), 2 * RIM + 1, stride=1, padding=RIM)[0] > 0
        return sight.visible & (sight.behind < THROUGH / CELLS) & ~near[sight.y, sight.x] & own.any()

    def deny_nothing(self, points: Tensor, label: int, frame: int) -> Tensor:
        """(N,) bool, all false: what does not move may be hidden from any one camera."""
        return torch.zeros_like(points[:, 0], dtype=torch.bool)

    def sight(self, points: Tensor, frame: int) -> Sight:
        """What the camera of a frame sees of points (N, 3)."""
        uv, in_front = self.cameras.project(self.space.to_world(points), frame)
        x, y = uv[:, 0].long().clamp(0, self.cameras.width - 1), uv[:, 1].long().clamp(0, self.cameras.height - 1)
        behind = self.space.ray_parameter(points, self.cameras, frame) - self.u[frame, y, x]
        return Sight(y, x, behind, in_front & self.cameras.inside(uv))


def seen_surfaces(renderer: ModelRenderer, scene: str) -> Surfaces:
    """Render what every training camera sees, small."""
    context = renderer.scenes[scene]
    cameras = context.cameras
    small, found = small_view(cameras), []
    for frame in range(context.frames):
        view = renderer.render(scene, small, frame, float(frame), frozenset({"depth", "semantic"}))
        points = context.space.from_world(small.lift(small.pixels(), view.depth, frame))
        found.append((context.space.ray_parameter(points, small, frame), view.labels))
    return Surfaces(*(torch.stack(values) for values in zip(*found)), small, context.space)
