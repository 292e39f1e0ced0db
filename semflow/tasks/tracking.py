"""Dense tracking: where the surface points that pixels show are at every time, by the model's flow.

The surface point of a pixel is the expected position along its ray under the rendering weights. If the pixel is mostly of
the dynamic field, the flow network carries the point from frame to frame; otherwise it rests. Seen by the watching camera
of a time, it is visible where its depth is the rendered one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from semflow.encoders.sampling import read_nearest
from semflow.records import View
from semflow.rendering.model_renderer import ModelRenderer
from semflow.utils.errors import ConfigError
from semflow.utils.files import atomic_path

MOVING_SHARE = 0.5  # of a pixel that the dynamic field explains, above which it moves
SAME_DEPTH = 0.05  # relative difference to the rendered depth up to which a point is visible
NEEDS = frozenset({"rgb", "semantic", "depth", "dynamic"})


@dataclass(frozen=True)
class Tracks:
    """P points over T times.

    Attributes:
        start: (P,) int64 time at which the pixel of a point was given.
        uv: (P, T, 2) pixels of the watching camera of each time; finite, but meaningless where behind it.
        visible: (P, T) bool.
        points_world: (P, T, 3) world positions.
        moving: (P,) bool, carried by the flow.
    """

    start: Tensor
    uv: Tensor
    visible: Tensor
    points_world: Tensor
    moving: Tensor

    def __len__(self) -> int:
        return len(self.start)


def joined_tracks(parts: Sequence[Tracks]) -> Tracks:
    """Several sets of tracks as one."""
    return Tracks(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Tracks)))


def save_tracks(path, tracks: Tracks, watching: Sequence[int]) -> None:
    """Write start, uv, visible, points_world, moving and the watching camera of each time as .npz, all or nothing."""
    arrays = {name: value.cpu().numpy() for name, value in vars(tracks).items()}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, cameras=np.array(watching), **arrays)


class Tracker:
    """Tracks points of a scene of a trained model.

    Args:
        renderer: the model. scene: name of one of its scenes.
        camera: the training camera that watches at all times; None: at every time its own.

    Raises:
        ConfigError: there is no such camera.
    """

    def __init__(self, renderer: ModelRenderer, scene: str, camera: int | None = None):
        self.renderer, self.scene, self.context = renderer, scene, renderer.scenes[scene]
        self.frames, self.cameras = self.context.frames, self.context.cameras
        if camera is not None and not 0 <= camera < self.frames:
            raise ConfigError(f"camera = {camera}: the scene has the cameras 0 to {self.frames - 1}")
        self.watching = tuple(range(self.frames)) if camera is None else (camera,) * self.frames
        self.views: dict[int, View] = {}

    def view(self, time: int) -> View:
        """What the watching camera of a time sees; rendered once."""
        if time not in self.views:
            self.views[time] = self.renderer.render(
                self.scene, self.cameras, self.watching[time], float(time), NEEDS)
        return self.views[time]

    @torch.no_grad()
    def track(self, start: int, uv: Tensor) -> Tracks:
        """Tracks of the surface points seen at pixels uv (P, 2) of the watching camera at time `start`."""
        view, camera = self.view(start), self.watching[start]
        here = self.cameras.lift(uv, read_nearest(view.depth, uv), camera)
        moving = read_nearest(view.dynamic_opacity, uv) > MOVING_SHARE
        places = {start: here}
        for step in (-1, 1):
            points = self.context.space.from_world(here)
            for time in range(start + step, self.frames if step > 0 else -1, step):
                points = self.on_surface(self.advect(points, time - step, step), time)
                places[time] = torch.where(moving[:, None], self.context.space.to_world(points), here)
        points_world = torch.stack([places[time] for time in range(self.frames)], dim=1)
        seen = [self.seen(points_world[:, time], time) for time in range(self.frames)]
        uv, visible = (torch.stack(parts, dim=1) for parts in zip(*seen))
        return Tracks(torch.full_like(moving, start, dtype=torch.int64), uv, visible, points_world, moving)

    def advect(self, points: Tensor, time: int, step: int) -> Tensor:
        """Where the field-space points (P, 3) of a time are one step later (1) or earlier (-1)."""
        code = self.renderer.ready_maps(self.scene).code
        return self.renderer.model.flow.advect(points, time, step, self.context.timeline, code, self.context.index)

    def on_surface(self, points: Tensor, time: int) -> Tensor:
        """Field-space points (P, 3) of a time, those that are visible on what moves put onto its surface.

        What is seen lies on a surface: errors of the flow along the line of sight do not add up over the frames.
        """
        view, camera = self.view(time), self.watching[time]
        uv, visible = self.seen(self.context.space.to_world(points), time)
        met = visible & (read_nearest(view.dynamic_opacity, uv) > MOVING_SHARE)
        surface = self.context.space.from_world(self.cameras.lift(uv, read_nearest(view.depth, uv), camera))
        return torch.where(met[:, None], surface, points)

    def seen(self, points_world: Tensor, time: int) -> tuple[Tensor, Tensor]:
        """Pixels (P, 2) of the points (P, 3) at a time, and whether (P,) they are visible."""
        camera, view = self.watching[time], self.view(time)
        uv, in_front = self.cameras.project(points_world, camera)
        depth, rendered = self.cameras.depth(points_world, camera), read_nearest(view.depth, uv)
        return uv, in_front & self.cameras.inside(uv) & ((depth / rendered - 1.0).abs() < SAME_DEPTH)


def grid_pixels(mask: Tensor, step: int) -> Tensor:
    """Centres (P, 2) of the pixels of a mask (H, W) on a grid with `step` pixels between its lines."""
    kept = torch.zeros_like(mask)
    kept[step // 2 :: step, step // 2 :: step] = True
    return (mask & kept).nonzero().flip(1) + 0.5
