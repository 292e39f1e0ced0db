"""Weak labels: of whole label maps only what an annotator with little time would have drawn is kept."""

from __future__ import annotations

import cv2
import numpy as np

DISC_RADIUS = 0.01  # radius of the disc of a box centre, relative to the image width
CORNER = np.array([[-1, -1, -1], [0, 1, 0], [1, 1, 1]])  # hit-or-miss: 1 inside, -1 outside, 0 either
EDGE = np.array([[0, -1, -1], [1, 1, -1], [0, 1, 0]])


def kept_pixels(labels: np.ndarray, kind: str, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Which labels of a frame are kept.

    Args:
        labels: (H, W) class ids, -1 = no label.
        kind: full; fraction (pixels at random); scribbles (a thin curve in each connected region of a class);
            box_centre (a small disc in each connected region, round its pixel nearest to the centre of its bounding box).
        fraction: share of the labelled pixels that `fraction` keeps, at least one pixel.
        rng: draws the pixels of `fraction`; the others are not random.

    Returns:
        (H, W) bool, nowhere where there is no label.
    """
    known = labels >= 0
    if kind == "full" or not known.any():
        return known
    if kind == "fraction":
        return random_pixels(known, fraction, rng)
    draw = {"scribbles": thin_curves, "box_centre": centre_discs}[kind]
    return np.logical_or.reduce([draw(labels == identity) for identity in np.unique(labels[known])])


def random_pixels(mask: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """The share `fraction` of the pixels of (H, W) `mask`, at least one."""
    candidates = np.flatnonzero(mask)
    chosen = rng.choice(candidates, max(1, round(fraction * len(candidates))), replace=False)
    kept = np.zeros_like(mask)
    kept.flat[chosen] = True
    return kept


def thin_curves(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool mask thinned to curves of one pixel's width: one in each region (8-connected), as connected as it.

    Pixels at the rim are taken away from all sides in turn until nothing changes, none that holds a region together.
    """
    curve = np.pad(mask, 1).astype(np.uint8)  # beyond the image is outside
    kernels = [np.rot90(kernel, turns).copy() for turns in range(4) for kernel in (CORNER, EDGE)]
    before = -1
    while before != curve.sum():
        before = curve.sum()
        for kernel in kernels:
            curve -= cv2.morphologyEx(curve, cv2.MORPH_HITMISS, kernel)
    return curve[1:-1, 1:-1].astype(bool)


def centre_discs(mask: np.ndarray) -> np.ndarray:
    """Discs in the regions of a mask (H, W), each round the region's pixel nearest to the centre of its bounding box."""
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    rows, columns = np.indices(mask.shape)
    radius = max(1.0, DISC_RADIUS * mask.shape[1])
    kept = np.zeros_like(mask)
    for region in range(1, count):  # 0 is the outside
        left, top, width, height = boxes[region, :4]
        inside = regions == region
        distance = np.hypot(columns - (left + (width - 1) / 2), rows - (top + (height - 1) / 2))
        row, column = divmod(int(np.where(inside, distance, np.inf).argmin()), mask.shape[1])
        kept |= inside & (np.hypot(columns - column, rows - row) <= radius)
    return kept
