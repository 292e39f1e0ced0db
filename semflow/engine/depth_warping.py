"""New views by warping training frames with their depth, without any field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from semflow.data.supervision import calibrated_depth, ordinal_surface
from semflow.encoders.sampling import read_nearest
from semflow.engine.label_propagation import nearest_values
from semflow.geometry.cameras import Cameras
from semflow.geometry.triangulation import read_image
from semflow.records import SceneData, View

FOOTPRINT = 0.1  # pixels from the centre of a neighbouring pixel beyond which a point does not cover it any more


def frame_depths(scene: SceneData) -> Tensor:
    """(T, H, W) axis depth of all frames in world units, calibrated as for training.

    Frames that cannot be calibrated have their inverse depth stretched over the bounds of their camera.
    """
    calibration = calibrated_depth(scene)[1]
    near, far = scene.cameras.near[:, None, None], scene.cameras.far[:, None, None]
    stretched = 1.0 / torch.lerp(1.0 / near, 1.0 / far, ordinal_surface(scene.disparity))
    return torch.where(calibration.calibrated[:, None, None], calibration.depth, stretched)


@dataclass(frozen=True)
class Warped:
    """An image put together from other images: rgb (H, W, 3), labels (H, W), depth (H, W), known (H, W) bool."""

    rgb: Tensor
    labels: Tensor
    depth: Tensor
    known: Tensor

    def completed(self, other: Warped) -> Warped:
        """Its holes filled from another one."""
        return Warped(*(
            torch.where(self.known[..., None] if mine.dim() == 3 else self.known, mine, theirs)
            for mine, theirs in zip(vars(self).values(), vars(other).values())
        ))

    def filled(self) -> Warped:
        """Every hole takes over its nearest pixel."""
        known = self.known.cpu().numpy()
        if known.all() or not known.any():
            return self
        parts = (torch.from_numpy(nearest_values(v.cpu().numpy(), known)).to(v.device) for v in vars(self).values())
        return Warped(*parts)


class DepthWarpingRenderer:
    """A `ViewRenderer` that warps the training frame of the time into the asked camera by its depth.

    The nearest surface wins. Holes are filled from what does not move in the other frames, those of the nearest cameras
    first, then by the nearest pixel. Where the camera is that of the frame itself, nothing moves.

    Args:
        scenes: name -> scene, with labels for all frames (see `propagate_labels`) or for none.
    """

    def __init__(self, scenes: Mapping[str, SceneData]):
        self.scenes = scenes
        self.depths = {name: frame_depths(scene) for name, scene in scenes.items()}

    def render(self, scene: str, cameras: Cameras, camera: int, time: float, what: frozenset[str]) -> View:
        """The frame of `time` as `camera` sees it; see `ViewRenderer`. Offers rgb, semantic and depth."""
        data, depths = self.scenes[scene], self.depths[scene]
        frame = min(round(time), data.frames - 1)
        found = warp(data, depths, frame, torch.ones_like(data.motion[frame]), cameras, camera)
        nearness = (data.cameras.c2w[:, :, 3] - cameras.center(camera)).norm(dim=-1).tolist()
        for other in sorted(range(data.frames), key=lambda index: (nearness[index], index)):
            if other != frame and not found.known.all():
                found = found.completed(warp(data, depths, other, ~data.motion[other], cameras, camera))
        found = found.filled()
        # pixels without a label (-1), as in a scene without any, become class 0
        logits = functional.one_hot(found.labels.clamp(min=0), len(data.label_map)).float()
        labelled = "semantic" in what and bool((data.labels >= 0).any())
        return View(found.rgb, logits if labelled else None, found.depth if "depth" in what else None)


def warp(scene: SceneData, depths: Tensor, frame: int, chosen: Tensor, cameras: Cameras, camera: int) -> Warped:
    """The chosen pixels (H, W) bool of a frame as another camera sees them.

    The depths (T, H, W) of the frame are drawn into the other camera first; then each of its pixels reads colour and label
    where its surface point lies in the frame, so that colours are interpolated between pixels and labels have no cracks.
    """
    points = scene.cameras.lift(scene.cameras.pixels()[chosen], depths[frame][chosen], frame)
    depth = nearest_depth(points, cameras, camera)
    known = depth.isfinite()
    depth = torch.where(known, depth, 1.0)
    uv, _ = scene.cameras.project(cameras.lift(cameras.pixels(), depth, camera), frame)
    uv, size = uv.flatten(0, 1), depth.shape
    rgb, labels = read_image(scene.rgb[frame], uv), read_nearest(scene.labels[frame], uv)
    return Warped(rgb.view(*size, 3), labels.view(size), depth, known)


def nearest_depth(points_world: Tensor, cameras: Cameras, camera: int) -> Tensor:
    """(H, W) depth of the nearest of N points (N, 3) in each pixel of a camera; infinite where there is none.

    A point covers the pixels around it: the one it falls into alone if it lies in its middle, else two or four.
    """
    uv, in_front = cameras.project(points_world, camera)
    depth = cameras.depth(points_world, camera)
    image = torch.full((cameras.height * cameras.width,), torch.inf, device=depth.device)
    first = (uv - 0.5).floor()
    for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
        pixel = first + torch.tensor(shift, device=uv.device)
        near = ((uv - 0.5 - pixel).abs() < 1.0 - FOOTPRINT).all(-1)
        good = in_front & near & cameras.inside(pixel + 0.5)
        column, row = pixel[good].long().unbind(-1)
        image.scatter_reduce_(0, row * cameras.width + column, depth[good], "amin")
    return image.view(cameras.height, cameras.width)
