"""Pictures beside pictures: captions, grids, overlays, and the panel that watches a training."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.records import SceneData, View
from semflow.viz.colors import color_disparity, color_labels, color_rgb, color_share
from semflow.viz.flow_wheel import color_flow, flow_scale

GAP = 2  # pixels between the tiles of a grid
CAPTION_COLOR = (235, 235, 235)
BAR_COLOR = (32, 32, 32)
MIN_BAR = 16

Tile = tuple[str, np.ndarray]  # caption, (H, W, 3) uint8


def caption_height(height: int) -> int:
    """Pixels that `caption` adds on top of an image of this height."""
    return max(MIN_BAR, height // 16)


def caption(image: np.ndarray, text: str) -> np.ndarray:
    """Image (H, W, 3) uint8 under a bar with one line of text, (H + caption_height(H), W, 3)."""
    bar = np.full((caption_height(image.shape[0]), image.shape[1], 3), BAR_COLOR, dtype=np.uint8)
    size = bar.shape[0] / 40.0
    baseline = round(bar.shape[0] * 0.72)
    cv2.putText(bar, text, (4, baseline), cv2.FONT_HERSHEY_SIMPLEX, size, CAPTION_COLOR, 1, cv2.LINE_AA)
    return np.concatenate([bar, image], axis=0)


def side_by_side(tiles: Sequence[Tile], columns: int | None = None) -> np.ndarray:
    """Captioned tiles of one size in a grid, row by row; what is left of the last row stays dark.

    Args:
        tiles: captions and (H, W, 3) uint8 images.
        columns: tiles per row; None puts all in one row.

    Raises:
        ValueError: no tiles, or tiles of different sizes.
    """
    sizes = {image.shape for _, image in tiles}
    if len(sizes) != 1:
        raise ValueError(f"side_by_side needs tiles of one size, got {sorted(sizes)}; resize them first")
    images = [caption(image, text) for text, image in tiles]
    columns = min(columns or len(images), len(images))
    rows = -(-len(images) // columns)
    height, width, _ = images[0].shape
    grid = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), BAR_COLOR, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        grid[top : top + height, left : left + width] = image
    return grid


def truth_beside_prediction(name: str, prediction: np.ndarray, truth: np.ndarray, truth_name: str = "") -> list[Tile]:
    """Two tiles, the prediction and the truth; the truth is brought to the prediction's size."""
    height, width = prediction.shape[:2]
    if truth.shape != prediction.shape:
        truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST)
    return [(name, prediction), (truth_name or f"{name}: truth", truth)]


def overlay(rgb: np.ndarray, label_colors: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Label colours over an image, both (H, W, 3) uint8; alpha = 0 shows the image alone, 1 the labels alone."""
    return cv2.addWeighted(rgb, 1.0 - alpha, label_colors, alpha, 0.0)


def training_panel(view: View, scene: SceneData, frame: int) -> np.ndarray:
    """Prediction beside truth for training frame `frame`: RGB, semantics, depth, flow and blending.

    Args:
        view: rendered with camera `frame` at time `frame`, at any size; quantities that it lacks are left out.
        scene: the scene that was rendered.
        frame: training frame.

    Returns:
        (H', W', 3) uint8, two pairs per row.

    Raises:
        ValueError: the view holds none of the quantities.
    """
    tiles: list[Tile] = []
    if view.rgb is not None:
        tiles += truth_beside_prediction("rgb", color_rgb(view.rgb), color_rgb(scene.rgb[frame]))
    if view.logits is not None:
        truth = color_labels(scene.labels[frame], scene.label_map)
        tiles += truth_beside_prediction("labels", color_labels(view.labels, scene.label_map), truth)
    if view.depth is not None:
        rendered, truth = color_disparity(1.0 / view.depth.clamp(min=1e-6)), color_disparity(scene.disparity[frame])
        tiles += truth_beside_prediction("1 / depth", rendered, truth, "given disparity")
    if view.flow is not None:
        tiles += _flow_tiles(view, scene, frame)
    if view.dynamic_opacity is not None:
        truth = color_share(scene.motion[frame])
        tiles += truth_beside_prediction("dynamic share", color_share(view.dynamic_opacity), truth, "motion mask")
    return side_by_side(tiles, columns=4)


def _flow_tiles(view: View, scene: SceneData, frame: int) -> list[Tile]:
    """Rendered and given flow on one scale, of the given flow; grey where the given flow is not consistent."""
    height, width = view.flow.shape[:2]
    given, valid = scene.flow_forward[frame], scene.flow_forward_valid[frame]
    scale = flow_scale(given[valid]) if valid.any() else None
    rendered, name = view.flow, "scene motion"
    if view.depth is not None and frame + 1 < scene.frames:
        cameras = scene.cameras.resized(height, width).to(view.flow.device)
        rendered, name = _optical_flow(view.flow, view.depth, cameras, frame), "flow"
    rendered = color_flow(rendered, None if scale is None else scale * width / scene.width)
    truth = color_flow(given, scale)
    truth[~valid.cpu().numpy()] = 128
    return truth_beside_prediction(name, rendered, truth, "given flow")


def _optical_flow(motion: Tensor, depth: Tensor, cameras: Cameras, frame: int) -> Tensor:
    """Scene motion seen by a camera that stands still (H, W, 2) plus the motion to the next camera.

    The view holds no motion in depth: a moving point is taken to keep its depth (H, W) for this one step.
    """
    pixels = cameras.pixels()
    moved = cameras.lift(pixels + motion, depth, frame)
    return cameras.project(moved, frame + 1)[0] - pixels
