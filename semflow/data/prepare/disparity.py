"""Inverse depth without a depth network: what stands still is triangulated, what moves is taken to stand on what is below it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from semflow.data.prepare.flow import Flow
from semflow.data.prepare.motion import REFERENCE_WIDTH, along_flows, disc
from semflow.geometry.cameras import Cameras
from semflow.geometry.triangulation import MIN_PARALLAX, StaticFit
from semflow.utils.errors import DataError

TRUSTED = 1.0  # pixels of error up to which a triangulated pixel counts, in images of REFERENCE_WIDTH
COLOUR = 12.0  # grey levels by which neighbours may differ and still share most of their depth
SWEEPS, OWN = 24, 1e-4  # of the smoothing on every level; weight of the value before
LEFT, RIGHT = (slice(None), slice(0, -1)), (slice(None), slice(1, None))
UPPER, LOWER = (slice(0, -1),), (slice(1, None),)
PASSES, HOLD = 12, 0.02  # of the means over what moves, along the flow and beside; weight of a pixel's own against its four neighbours
ALIKE, WALL = 1.0, 100.0  # pixels by which the flow of one thing may change from pixel to pixel; more than any distance of flows
CONTACT, BAND = 0.15, 0.02  # lowest share of a moving region's height; share of the image's height below it that is looked at


def inverse_depths(fits: list[StaticFit], flows: dict[tuple[int, int], Flow], cameras: Cameras, motion: np.ndarray,
                   frames: list[np.ndarray]) -> list[np.ndarray]:
    """Inverse depth (H, W) float32 of every frame.

    What moves has no depth that one camera could tell: a moving region gets, as a whole, the inverse depth of what stands still
    just below its lowest part. Regions part and meet in the course of time, so means along the flow follow.

    Args:
        fits: what `motion.fit_frames` found of the flows. motion: (T, H, W) bool. frames: (H, W, 3) uint8.

    Raises:
        DataError: not a single pixel can be triangulated.
    """
    trusted = [trusted_pixels(fit, cameras, mask, number) for number, (fit, mask) in enumerate(zip(fits, motion))]
    if not np.any(trusted):
        raise DataError("no depth can be told: the cameras do not move, or they are not those of these frames; take a part of "
                        "the video in which the camera moves, or check --poses")
    found = [inverse_depth(*given) for given in zip(fits, [cameras] * len(fits), trusted, motion, frames)]
    return list(along_time(torch.from_numpy(np.stack(found)), torch.from_numpy(motion), flows).numpy())


def along_time(depth: Tensor, motion: Tensor, flows: dict[tuple[int, int], Flow]) -> Tensor:
    """Inverse depth (T, H, W), that of moving pixels (T, H, W) bool averaged over the frames in which they are seen to move, and
    with neighbours that move alike."""
    guides = [guide_of(motion[frame], flows, frame) for frame in range(len(depth))]
    for _ in range(PASSES):
        held = torch.stack([depth * motion, motion.float()], dim=-1)
        sums = torch.stack([along_flows(held, flows, frame) for frame in range(len(held))])
        means = torch.where(motion, sums[..., 0] / sums[..., 1].clamp(min=1), depth).numpy()
        smooth = [diffuse(mean, np.full_like(mean, HOLD), mean, guide) for mean, guide in zip(means, guides)]
        depth = torch.where(motion, torch.from_numpy(np.stack(smooth)), depth)
    return depth


def guide_of(moving: Tensor, flows: dict[tuple[int, int], Flow], frame: int) -> np.ndarray:
    """(H, W, 3): flow of a frame to a neighbour, and a wall around what moves (H, W) bool, between which `diffuse` smooths."""
    flow = flows[frame, frame + 1 if (frame, frame + 1) in flows else frame - 1].vectors
    return torch.cat([flow / ALIKE, WALL * moving[..., None]], dim=-1).numpy()


def inverse_depth(fit: StaticFit, cameras: Cameras, trusted: np.ndarray, moving: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """(H, W) inverse depth of a frame from its trusted pixels (H, W) bool."""
    values = (1.0 / fit.depth).view(cameras.height, cameras.width).numpy() * trusted
    return standing(spread(values, trusted.astype(np.float32), frame), moving)


def trusted_pixels(fit: StaticFit, cameras: Cameras, moving: np.ndarray, frame: int) -> np.ndarray:
    """(H, W) bool: at rest, explained, and seen from so far aside that a point at the near bound would have a parallax."""
    limit = TRUSTED * cameras.width / REFERENCE_WIDTH
    good = (fit.seen > 0) & (fit.error < limit) & (fit.baseline > MIN_PARALLAX * cameras.near[frame])
    return good.view(cameras.height, cameras.width).numpy() & ~moving


def spread(values: np.ndarray, trust: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Values (H, W) where trust (H, W) in [0, 1] is high, carried on to the rest: from near, else from coarser and coarser images;
    smoothed between pixels of like colour, so that edges of depth stay at edges of colour."""
    if min(values.shape) <= 8 or (trust > 0).all():
        total = max(float(trust.sum()), 1e-6)
        filled = np.where(trust > 0, values, (values * trust).sum() / total)
        return filled.astype(np.float32)
    half = tuple(-(-n // 2) for n in values.shape[::-1])
    weight = cv2.resize(trust, half, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(values * trust, half, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-6)
    below = spread(coarse, np.minimum(weight, 1.0), cv2.resize(frame, half, interpolation=cv2.INTER_AREA))
    start = cv2.resize(below, values.shape[::-1], interpolation=cv2.INTER_LINEAR)
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB).astype(np.float32)
    return diffuse(np.where(trust > 0, values, start), trust, values, lab / COLOUR)


def diffuse(found: np.ndarray, trust: np.ndarray, values: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """Weighted means with the four neighbours, again and again; weights fall with the distance in the guide (H, W, C), trusted
    values hold."""
    across, down = (np.exp(-np.abs(np.diff(guide, axis=axis)).sum(-1)) for axis in (1, 0))
    neighbours = ((LEFT, RIGHT, across), (RIGHT, LEFT, across), (UPPER, LOWER, down), (LOWER, UPPER, down))
    weight = trust + OWN
    for here, _, likeness in neighbours:
        weight[here] += likeness
    for _ in range(SWEEPS):
        total = values * trust + OWN * found
        for here, there, likeness in neighbours:
            total[here] += likeness * found[there]
        found = total / weight
    return found.astype(np.float32)


def standing(static: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Inverse depth (H, W) of what stands still, with each connected moving region upright on what is just below it."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(moving.astype(np.uint8))
    found = static.copy()
    reach = max(2, round(BAND * len(static)))
    for region in range(1, count):
        inside = regions == region
        top, height = stats[region, cv2.CC_STAT_TOP], stats[region, cv2.CC_STAT_HEIGHT]
        feet = inside.copy()
        feet[: top + int((1 - CONTACT) * height)] = False
        around = (cv2.dilate(feet.astype(np.uint8), disc(reach)) > 0) & ~moving
        around[: top + int((1 - CONTACT) * height)] = False
        if around.any():
            found[inside] = np.percentile(static[around], 75)
    return found
