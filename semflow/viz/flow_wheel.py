"""Optical flow in the colours of the Middlebury benchmark: hue = direction, saturation = length."""

from __future__ import annotations

import numpy as np
from torch import Tensor

# The wheel from red over yellow, green, cyan, blue and magenta back to red (Baker et al., IJCV 2011). In a segment
# (steps, full, moving, sign), channel `full` stays at 1 while channel `moving` rises (+1) or falls (-1).
SEGMENTS = ((15, 0, 1, +1), (6, 1, 0, -1), (4, 1, 2, +1), (11, 2, 1, -1), (13, 2, 0, +1), (6, 0, 2, -1))
OUT_OF_RANGE = 0.75  # brightness of vectors longer than the scale
TOLERANCE = 1e-3  # of the scale: rounding does not darken
PERCENTILE = 99.5


def color_wheel() -> np.ndarray:
    """(55, 3) colours in [0, 1], red first."""
    rows = []
    for steps, full, moving, sign in SEGMENTS:
        ramp = np.arange(steps) / steps
        part = np.zeros((steps, 3))
        part[:, full] = 1.0
        part[:, moving] = ramp if sign > 0 else 1.0 - ramp
        rows.append(part)
    return np.concatenate(rows)


def flow_scale(flow: Tensor) -> float:
    """Length in pixels to show saturated: nearly that of the longest of (..., 2) vectors, at least 1e-3."""
    length = flow.detach().float().norm(dim=-1).flatten().cpu().numpy()
    length = length[np.isfinite(length)]
    return max(float(np.percentile(length, PERCENTILE)), 1e-3) if length.size else 1e-3


def color_flow(flow: Tensor, scale: float | None = None) -> np.ndarray:
    """Colour flow vectors.

    Args:
        flow: (H, W, 2) pixels, x right and y down.
        scale: length shown fully saturated; longer vectors are darker. None: `flow_scale(flow)`.

    Returns:
        (H, W, 3) uint8 RGB; no motion is white, right is red, down is yellow, vectors that are not finite are black.
    """
    vectors = flow.detach().float().cpu().numpy() / (flow_scale(flow) if scale is None else scale)
    finite = np.isfinite(vectors).all(axis=-1)
    vectors = np.where(finite[..., None], vectors, 0.0)
    length = np.linalg.norm(vectors, axis=-1)[..., None]
    wheel = color_wheel()
    position = np.arctan2(vectors[..., 1], vectors[..., 0]) / (2 * np.pi) % 1.0 * len(wheel)
    lower = np.floor(position).astype(int)
    share = (position - lower)[..., None]
    hue = (1 - share) * wheel[lower % len(wheel)] + share * wheel[(lower + 1) % len(wheel)]
    color = np.where(length <= 1.0 + TOLERANCE, 1.0 - length.clip(max=1.0) * (1.0 - hue), hue * OUT_OF_RANGE)
    return (color * finite[..., None] * 255.0 + 0.5).astype(np.uint8)
