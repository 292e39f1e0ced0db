"""Exact truth of a scene: images, labels, depth, masks and optical flow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.data.synthetic.raycast import Surfaces, draw_all, make_view, nearest, to_world
from semflow.data.synthetic.scene import Scene
from semflow.geometry.cameras import MIN_DEPTH, Cameras

SUPERSAMPLES = 2  # rays per pixel of the full-size image, along each axis
SAME_SURFACE = 1e-4  # relative difference of depth up to which two hits are one surface


@dataclass(frozen=True)
class Shot:
    """What camera `camera` sees at time `time`.

    Attributes:
        camera: index of the camera.
        time: index of the time.
        rgb: (2H, 2W, 3) float32 in [0, 1], area-averaged.
        labels: (H, W) int64 class ids at pixel centres, those of the labels that training gets.
        surfaces: (H, W) depth (float64), instance and material at pixel centres, without colour.
    """

    camera: int
    time: int
    rgb: Tensor
    labels: Tensor
    surfaces: Surfaces


@dataclass(frozen=True)
class FlowTruth:
    """Optical flow from one frame to another.

    Attributes:
        flow: (H, W, 2) float32 pixels.
        visible: (H, W) bool, True = the surface point is seen in the other frame.
    """

    flow: Tensor
    visible: Tensor


def area_average(image: Tensor, factor: int) -> Tensor:
    """(H * factor, W * factor, 3) -> (H, W, 3) by averaging blocks."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return image.reshape(height, factor, width, factor, -1).mean(dim=(1, 3))


def shots_of_camera(scene: Scene, camera: int) -> Iterator[Shot]:
    """The shots of one camera at every time; what stands still is cast once."""
    height, width = scene.spec.height, scene.spec.width
    fine = make_view(scene.cameras, camera, 2 * height * SUPERSAMPLES, 2 * width * SUPERSAMPLES, torch.float32)
    half = make_view(scene.cameras, camera, height, width)
    views = ((fine, True), (half, False))
    still = [draw_all(scene.things, view, 0.0, colored, moving=False) for view, colored in views]
    class_ids = scene.class_ids()
    for time in range(scene.spec.frames):
        color, surfaces = (
            draw_all(scene.things, view, float(time), colored, moving=True, base=base)
            for (view, colored), base in zip(views, still)
        )
        yield Shot(camera, time, area_average(color.rgb, SUPERSAMPLES), class_ids[surfaces.instance], surfaces)


def moved_points(scene: Scene, surfaces: Surfaces, time: float) -> Tensor:
    """World points (H, W, 3) at `time` of the surface points seen in `surfaces`; NaN where nothing was hit."""
    points = torch.full_like(surfaces.material, float("nan"))
    for number in surfaces.instance.unique().tolist():
        if number >= 0:
            area = surfaces.instance == number
            points[area] = to_world(scene.things[number], surfaces.material[area], time)
    return points


def flow_between(scene: Scene, surfaces: Surfaces, source: int, target: int) -> FlowTruth:
    """Exact flow from frame `source` (camera and time) to frame `target`.

    Args:
        scene: the scene.
        surfaces: (H, W) what the source frame sees.
        source: frame of the surfaces.
        target: frame into whose image the surface points are moved and projected.
    """
    height, width = surfaces.instance.shape
    cameras = scene.cameras.resized(height, width)
    points = moved_points(scene, surfaces, float(target))
    hit = surfaces.instance >= 0
    points = torch.where(hit[..., None], points, cameras.lift(cameras.pixels().double(), hit * 1e6, source))
    uv, in_front = cameras.project(points, target)
    flow = (uv - cameras.pixels()).float()
    visible = hit & in_front & cameras.inside(uv) & unoccluded(scene, cameras, surfaces, points, target, target)
    return FlowTruth(flow, visible)


def unoccluded(scene: Scene, cameras: Cameras, surfaces: Surfaces, points: Tensor, camera: int, time: int) -> Tensor:
    """(H, W) bool: a camera sees the world points (H, W, 3) of `surfaces`, moved to `time`, and nothing before them."""
    depth = cameras.depth(points, camera).reshape(-1)
    origin = cameras.center(camera)
    directions = (points.reshape(-1, 3) - origin) / depth.clamp_min(MIN_DEPTH)[:, None]
    first, instance = nearest(scene.things, origin, directions, float(time))
    same = (instance == surfaces.instance.reshape(-1)) & ((first - depth).abs() < SAME_SURFACE * depth)
    return same.reshape(surfaces.instance.shape)
