"""Pictures of edits: the instances of a scene, and views before and after."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import torch

from semflow.geometry.trajectories import Trajectory
from semflow.rendering.view_renderer import ViewRenderer
from semflow.tasks.editing.selection import Scenery
from semflow.viz.colors import color_rgb
from semflow.viz.panels import overlay, side_by_side

GOLDEN = 0.618034  # hues that far apart never come close to each other soon
MOVING_SHARE, STILL_SHARE = 0.6, 0.25  # of the colour in the picture
SMALLEST_WIDTH = 384  # pixels, below which the names do not fit


def instance_picture(scenery: Scenery, frames: list[int]) -> np.ndarray:
    """(H', W', 3) uint8: training frames with the instances in colours and by their names."""
    context = scenery.renderer.scenes[scenery.scene]
    factor = max(1, -(-SMALLEST_WIDTH // context.cameras.width))
    tiles = []
    for frame in frames:
        shown = np.repeat(np.repeat(scenery.shown(frame).cpu().numpy(), factor, 0), factor, 1)
        size = (shown.shape[1], shown.shape[0])
        image = cv2.resize(color_rgb(context.rgb[frame]), size, interpolation=cv2.INTER_LINEAR)
        tiles.append((f"frame {frame}", named(colored(image, shown, scenery), shown, scenery)))
    return side_by_side(tiles)


def colored(image: np.ndarray, shown: np.ndarray, scenery: Scenery) -> np.ndarray:
    """Image (H, W, 3) with the instances (H, W) in colours, what moves more strongly."""
    for number, item in enumerate(scenery.regions.instances):
        color = np.array([255 * c for c in colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.9, 1.0)], dtype=np.uint8)
        tinted = overlay(image, np.broadcast_to(color, image.shape).copy(), MOVING_SHARE if item.moves else STILL_SHARE)
        image = np.where((shown == number)[..., None], tinted, image)
    return np.ascontiguousarray(image)


def named(image: np.ndarray, shown: np.ndarray, scenery: Scenery) -> np.ndarray:
    """Image with the names of the instances (H, W) that fill enough of it, each inside its own."""
    for number, item in enumerate(scenery.regions.instances):
        inside = cv2.distanceTransform(np.pad(shown == number, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        if inside.max() < 6:
            continue
        y, x = np.unravel_index(int(inside.argmax()), inside.shape)
        place = (max(0, int(x) - 4 * len(item.name)), int(y) + 4)
        for color, shift in (((0, 0, 0), 1), ((255, 255, 255), 0)):
            at = (place[0] + shift, place[1] + shift)
            cv2.putText(image, item.name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
    return image


def before_and_after(
    before: ViewRenderer, after: ViewRenderer, scene: str, path: Trajectory, views: list[int]
) -> np.ndarray:
    """(H', W', 3) uint8: some views of a path without the edits, and below with them."""
    rows = []
    for renderer, word in ((before, "before"), (after, "after")):
        for i in views:
            time = float(path.times[i])
            with torch.no_grad():
                view = renderer.render(scene, path.cameras, i, time, frozenset({"rgb"}))
            rows.append((f"{word}  t={time:.2f}", color_rgb(view.rgb)))
    return side_by_side(rows, columns=len(views))
