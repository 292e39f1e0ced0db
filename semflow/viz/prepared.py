"""What a scene gives to training, to look at before: frames, what moves, flow and inverse depth."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from semflow.records import SceneData
from semflow.viz.colors import color_disparity, color_rgb
from semflow.viz.flow_wheel import color_flow
from semflow.viz.panels import Tile, side_by_side

ROWS, WIDTH = 4, 480
MOVING = np.array([230, 60, 60], dtype=np.float32)


def prepared_picture(scene: SceneData) -> np.ndarray:
    """Four frames (or fewer) of a scene, a row each: the frame, what moves in red, flow to the next frame, inverse depth.

    Returns:
        (H, W, 3) uint8. Flow that the flow back contradicts is black.
    """
    chosen = torch.linspace(0, scene.frames - 1, min(ROWS, scene.frames)).round().long().tolist()
    return side_by_side([tile for frame in chosen for tile in tiles_of(scene, frame)], columns=4)


def tiles_of(scene: SceneData, frame: int) -> list[Tile]:
    """The four tiles of a frame."""
    rgb = color_rgb(scene.rgb[frame])
    moving = scene.motion[frame, ..., None].numpy()
    marked = np.where(moving, 0.5 * rgb + 0.5 * MOVING, rgb).astype(np.uint8)
    last = frame == scene.frames - 1
    flow, valid = (scene.flow_backward, scene.flow_backward_valid) if last else (scene.flow_forward, scene.flow_forward_valid)
    shown = torch.where(valid[frame, ..., None], flow[frame], torch.nan)
    named = {f"frame {frame}": rgb, "moving": marked, f"flow to frame {frame - 1 if last else frame + 1}": color_flow(shown),
             "inverse depth": color_disparity(scene.disparity[frame])}
    return [(name, narrowed(image)) for name, image in named.items()]


def narrowed(image: np.ndarray) -> np.ndarray:
    """An image (h, w, 3) at most WIDTH wide."""
    height, width = image.shape[:2]
    if width <= WIDTH:
        return image
    return cv2.resize(image, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)
