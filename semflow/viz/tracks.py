"""Pictures of tracked points: coloured by where they were at the start, and with their trails."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

MIN_WIDTH = 640  # pixels; smaller pictures are enlarged by a whole factor, so that single points can be told apart
HUES = 150.0  # of OpenCV's 180: red to violet, so that both ends differ
SHIFT = 4  # OpenCV draws at 1 / 16 of a pixel


def gradient_colors(uv: Tensor) -> np.ndarray:
    """Colours (P, 3) uint8 by place: hue from left to right, darker and paler downwards, over the extent of uv (P, 2)."""
    low, high = uv.amin(0), uv.amax(0)
    x, y = ((uv - low) / (high - low).clamp(min=1.0)).cpu().numpy().T
    hsv = np.stack([x * HUES, 255 - 80 * y, 255 - 90 * y], axis=-1)
    return cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]


def enlarged(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The picture (H, W, 3) uint8, enlarged if it is small, and the factor."""
    factor = max(1, -(-MIN_WIDTH // image.shape[1]))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else image.copy(), factor


def draw_points(image: np.ndarray, uv: Tensor, visible: Tensor, colors: np.ndarray, radius: float = 0.9) -> np.ndarray:
    """Visible points on a picture.

    Args:
        image: (H, W, 3) uint8. uv: (P, 2) pixels of it. visible: (P,) bool. colors: (P, 3) uint8.
        radius: of the points, in pixels of `image`.

    Returns:
        (H', W', 3) uint8, see `enlarged`.
    """
    canvas, factor = enlarged(image)
    for place, color in zip(fixed_point(uv * factor)[visible.cpu().numpy()], colors[visible.cpu().numpy()]):
        cv2.circle(canvas, place.tolist(), round(radius * factor * 2**SHIFT), color.tolist(), -1, cv2.LINE_AA, SHIFT)
    return canvas


def draw_trails(image: np.ndarray, uv: Tensor, visible: Tensor, colors: np.ndarray) -> np.ndarray:
    """The ways of points over time on a picture, ending in a dot where a point is seen at the last time.

    Args:
        image: (H, W, 3) uint8. uv: (P, T, 2) pixels of it. visible: (P, T) bool. colors: (P, 3) uint8.

    Returns:
        (H', W', 3) uint8, see `enlarged`. Where a point is hidden, its way is not drawn.
    """
    canvas, factor = enlarged(image)
    places, seen = fixed_point(uv * factor), visible.cpu().numpy()
    for way, shown, color in zip(places, seen, colors.tolist()):
        for time in np.flatnonzero(shown[:-1] & shown[1:]):
            cv2.line(canvas, way[time].tolist(), way[time + 1].tolist(), color, max(1, factor // 3), cv2.LINE_AA, SHIFT)
        if shown[-1]:
            cv2.circle(canvas, way[-1].tolist(), round(0.7 * factor * 2**SHIFT), color, -1, cv2.LINE_AA, SHIFT)
    return canvas


def fixed_point(uv: Tensor) -> np.ndarray:
    """Pixels (..., 2), whose centres are at half-integers, as OpenCV's integers of 1 / 16 pixel; far outside is cut."""
    return ((uv - 0.5).clamp(-1e5, 1e5) * 2**SHIFT).round().to(torch.int64).cpu().numpy()
