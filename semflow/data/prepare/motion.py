"""What moves: pixels whose flow no point at rest explains."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from semflow.data.prepare.flow import Flow
from semflow.geometry.cameras import Cameras, pixel_centres
from semflow.geometry.triangulation import StaticFit, fit_static, read_image

# Chosen on the synthetic scenes balloon, flag and mixed
REFERENCE_WIDTH = 480  # of the images to which MOVED, LOUDEST, GROWN and WINDOW belong
MOVED, GROWN = 1.0, 1  # pixels: error from which a point is taken to move; by which a mask is enlarged
WINDOW = 5  # pixels in which the majority decides
NOISE, LOUDEST = 6.0, 5.0  # times the median error of all pixels from which they move, if that is more; pixels, if it is too much
SMALLEST, SMALLEST_HOLE = 0.001, 0.02  # share of the image
NEAREST = 0.6  # of the near bound: nothing at rest is nearer
IMPOSSIBLE = 1e3  # error of what could only be at rest there


def seen_in(flows: dict[tuple[int, int], Flow], cameras: Cameras, frame: int) -> list[tuple[int, Tensor, Tensor]]:
    """Where the N pixels of a frame are seen in others: frame, uv (N, 2), seen (N,) bool."""
    pixels = cameras.pixels().flatten(0, 1)
    return [(other, pixels + flow.vectors.flatten(0, 1), flow.valid.flatten())
            for (here, other), flow in flows.items() if here == frame]


def fit_frames(flows: dict[tuple[int, int], Flow], cameras: Cameras) -> list[StaticFit]:
    """The points at rest that explain the flows of each frame best."""
    return [fit_static(cameras, frame, seen_in(flows, cameras, frame)) for frame in range(len(cameras))]


def unexplained(fit: StaticFit, cameras: Cameras, frame: int) -> Tensor:
    """(H, W) pixels of error of a frame's static points; NaN where the pixel is seen in no other frame."""
    error = torch.where(fit.depth > NEAREST * cameras.near[frame], fit.error, IMPOSSIBLE)
    return torch.where(fit.seen > 0, error, torch.nan).view(cameras.height, cameras.width)


def errors_of(fits: list[StaticFit], cameras: Cameras) -> Tensor:
    """(T, H, W) pixels of error of the static points of all frames, see `unexplained`; their median says how good cameras are."""
    return torch.stack([unexplained(fit, cameras, frame) for frame, fit in enumerate(fits)])


def motion_masks(errors: Tensor, flows: dict[tuple[int, int], Flow]) -> np.ndarray:
    """(T, H, W) bool from errors (T, H, W): what moves, rather a little too large than too small.

    Frames vote: a pixel moves if in most of the frames in which it is seen no point at rest explains its flows. What moves just
    as the parallax of a point at rest is not found.
    """
    scale = errors.shape[2] / REFERENCE_WIDTH
    limit = max(MOVED * scale, min(NOISE * float(errors.nanmedian()), LOUDEST * scale))
    known = ~errors.isnan()
    ballots = torch.stack([known & (errors > limit), known], dim=-1).float()  # (T, H, W, 2): for moving, and in all
    return np.stack([cleaned(along_flows(ballots, flows, frame).numpy(), scale) for frame in range(len(errors))])


def along_flows(values: Tensor, flows: dict[tuple[int, int], Flow], frame: int) -> Tensor:
    """(H, W, C) sums of values (T, H, W, C) at the pixels of a frame and where these are seen in other frames."""
    pixels = pixel_centres(*values.shape[1:3])
    total = values[frame].clone()
    for (here, other), flow in flows.items():
        if here == frame:
            there = read_image(values[other], (pixels + flow.vectors).flatten(0, 1)).view_as(total)
            total += there * flow.valid[..., None]
    return total


def cleaned(found: np.ndarray, scale: float) -> np.ndarray:
    """(H, W) bool from votes (H, W, 2): the majority of a small window, closed, without specks and small holes.

    Args:
        scale: image width over REFERENCE_WIDTH.
    """
    window = max(3, round(WINDOW * scale)) | 1
    known = found[..., 1] > 0
    moving = cv2.boxFilter((known & (found[..., 0] > 0.5 * found[..., 1])).astype(np.float32), -1, (window, window))
    around = cv2.boxFilter(known.astype(np.float32), -1, (window, window))
    mask = (moving > 0.5 * around).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc(window))
    mask = without_small(mask, SMALLEST)
    mask = 1 - without_small(1 - mask, SMALLEST_HOLE)
    return cv2.dilate(mask, disc(round(GROWN * scale))) > 0


def without_small(mask: np.ndarray, share: float) -> np.ndarray:
    """A mask (H, W) uint8 without the connected regions that cover less than a share of the image."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask)
    large = stats[:, cv2.CC_STAT_AREA] >= share * mask.size
    large[0] = False  # the background of the regions
    return large[regions].astype(np.uint8)


def disc(radius: int) -> np.ndarray:
    """Structuring element of a radius in pixels."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
