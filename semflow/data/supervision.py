"""Targets of a scene that are computed once: per pixel colours, labels, flows and the depth of the surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semflow.geometry.spaces import Space
from semflow.geometry.triangulation import Calibration, Triangulation, calibrate, triangulate
from semflow.records import SceneData, to_device

STRAY = 1e-3  # share of a scene's pixels whose surface may lie before the start of their rays

@dataclass(frozen=True)
class Supervision:
    """Flat per-pixel targets, all on one device.

    Attributes:
        surface_u: (T, H, W) ray parameter of each pixel's surface: calibrated, or only ordered within the frame.
        surface_metric: (T,) bool, the frame's surface is calibrated.
        triangulated_u: (T, H, W) ray parameter from triangulation; triangulated_valid: (T, H, W) bool.
        color_valid: (T,) bool, frames whose colours train the dynamic field.
        space: the field space in which all of this is meant, see `begun_early`.
        summary: one line about the depth, for the log.
    """

    surface_u: Tensor
    surface_metric: Tensor
    triangulated_u: Tensor
    triangulated_valid: Tensor
    color_valid: Tensor
    space: Space
    summary: str

    def to(self, device) -> Supervision:
        """Copy with every tensor on `device`."""
        return to_device(self, device)


def ordinal_surface(disparity: Tensor) -> Tensor:
    """(T, H, W) in [0, 1]: inverse depth turned round and scaled to each frame's range, on a copy."""
    flat = disparity.flatten(1)
    low, high = flat.min(1).values[:, None, None], flat.max(1).values[:, None, None]
    return 1.0 - (disparity - low) / (high - low).clamp(min=1e-12)


def depth_to_u(scene: SceneData, depth: Tensor) -> Tensor:
    """(T, H, W) axis depths in world units -> ray parameters in the scene's field space."""
    pixels = scene.cameras.pixels().flatten(0, 1)
    found = []
    for frame in range(scene.frames):
        points = scene.space.from_world(scene.cameras.lift(pixels, depth[frame].flatten(), frame))
        found.append(scene.space.ray_parameter(points, scene.cameras, frame).view(scene.height, scene.width))
    return torch.stack(found)


def begun_early(scene: SceneData, calibration: Calibration) -> Space:
    """The scene's field space, with rays that begin where the nearest calibrated surface is, if that lies before them.

    Bounds in the file come from points that stand still, and what moves is often nearer. Depths are calibrated down to 0.8
    of the near bound; a few stray pixels do not move the start.
    """
    u = depth_to_u(scene, calibration.depth)[calibration.calibrated]
    return scene.space.begun_at(float(u.min())) if u.numel() and float((u < 0).float().mean()) > STRAY else scene.space


def calibrated_depth(scene: SceneData) -> tuple[Triangulation, Calibration]:
    """The scene's triangulated static pixels, and its monocular depth calibrated with them."""
    found = triangulate(
        scene.cameras, scene.flow_forward, scene.flow_forward_valid, scene.flow_backward, scene.flow_backward_valid,
        scene.motion)
    near, far = 0.8 * float(scene.cameras.near.min()), 1.25 * float(scene.cameras.far.max())
    return found, calibrate(scene.disparity, found, near, far)


def supervise(scene: SceneData, calibrate_depth: bool, color_frames: tuple[int, ...]) -> Supervision:
    """Compute the targets of a scene.

    Args:
        scene: the data. calibrate_depth: see `DataConfig`. color_frames: frames whose colours may be used.
    """
    ordinal = ordinal_surface(scene.disparity)
    color_valid = torch.zeros(scene.frames, dtype=torch.bool, device=scene.rgb.device)
    color_valid[list(color_frames)] = True
    if not calibrate_depth:
        nothing = torch.zeros_like(scene.motion)
        uncalibrated = torch.zeros_like(color_valid)
        return Supervision(ordinal, uncalibrated, ordinal, nothing, color_valid, scene.space, "monocular depth: order only")
    found, calibration = calibrated_depth(scene)
    scene = replace(scene, space=begun_early(scene, calibration))
    metric = calibration.calibrated[:, None, None]
    surface, triangulated = (depth_to_u(scene, depth).clamp(0.0, 1.0) for depth in (calibration.depth, found.depth))
    share, error = float(found.valid.float().mean()), float(calibration.error.nanmedian())
    summary = (f"monocular depth calibrated in {int(calibration.calibrated.sum())} of {scene.frames} frames, median error "
               f"{error:.1%} of the inverse depth; {share:.0%} of the pixels triangulated")
    return Supervision(torch.where(metric, surface, ordinal), calibration.calibrated, triangulated, found.valid, color_valid,
                       scene.space, summary)
