"""Frames of straight cameras, and what their flow says: how well the cameras explain it, and what moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from semflow.data.images import Size, resize_area, resize_nearest
from semflow.data.maps import read_poses_bounds
from semflow.data.prepare.adjustment import adjusted
from semflow.data.prepare.flow import Flow, FlowMethod, dis_flow, flows_between
from semflow.data.prepare.frames import Frames, reduced
from semflow.data.prepare.motion import errors_of, fit_frames, motion_masks
from semflow.data.prepare.settings import PrepareSettings
from semflow.data.prepare.structure import Structure, read_model, reconstruct, require_size
from semflow.geometry.cameras import Cameras
from semflow.geometry.poses import cameras_from_llff, llff_rows
from semflow.geometry.triangulation import StaticFit
from semflow.utils.errors import DataError

MAP_WIDTH = 480  # of flow, masks and inverse depth: what scenes are usually trained at, or twice that
REACH = 2  # frames to each side whose flow tells what moves, and how far away what does not
ROUNDS = 3  # of structure from motion, each without what the one before has found to move
SETTLED = 0.95  # overlap of the masks of two rounds from which no other follows


@dataclass(frozen=True)
class Filmed:
    """Frames of straight cameras.

    Attributes:
        images: T arrays (H, W, 3) uint8. poses_bounds: (T, 17) LLFF rows.
    """

    images: list[np.ndarray]
    poses_bounds: np.ndarray

    @property
    def map_size(self) -> Size:
        """(H, W) of the maps."""
        height, width = self.images[0].shape[:2]
        return (height, width) if width <= MAP_WIDTH else (round(height * MAP_WIDTH / width), MAP_WIDTH)

    def cameras(self) -> Cameras:
        """Cameras of the maps."""
        return cameras_from_llff(self.poses_bounds, *self.map_size)

    def small(self) -> list[np.ndarray]:
        """Frames (H, W, 3) uint8 at the size of the maps."""
        return [resize_area(image, self.map_size) for image in self.images]


@dataclass(frozen=True)
class Look:
    """What the flow between frames says of their cameras.

    Attributes:
        filmed: frames and cameras. small: the frames at the size of the maps. flows: (from, to) -> flow between them.
        fits: the points at rest that explain it best. motion: (T, H, W) bool, what moves.
        error: pixels by which it stays unexplained, the median.
    """

    filmed: Filmed
    small: list[np.ndarray]
    flows: dict[tuple[int, int], Flow]
    fits: list[StaticFit]
    motion: np.ndarray
    error: float


def look_at(filmed: Filmed, method: FlowMethod, before: Look | None = None) -> Look:
    """Flow between the frames, unless a look before has it of the same images, and what it says."""
    small, cameras = filmed.small(), filmed.cameras()
    flows = before.flows if before and before.filmed.images is filmed.images else flows_between(small, REACH, method)
    fits = fit_frames(flows, cameras)
    errors = errors_of(fits, cameras)
    return Look(filmed, small, flows, fits, motion_masks(errors, flows), float(errors.nanmedian()))


def film(settings: PrepareSettings, frames: Frames, raft: FlowMethod | None, say: Callable[[str], None]) -> Look:
    """The frames as straight cameras take them, with these cameras, given or found by DIS flow, and what the flow says of them.

    Args:
        raft: the flow to end with; None: DIS.
    """
    if settings.poses:
        size = frames.images[0].shape[:2]
        return look_at(Filmed(frames.images, read_poses_bounds(settings.poses, len(frames.images), size)), raft or dis_flow())
    if settings.colmap:
        model = matched(settings, frames.sources, read_model(settings.colmap))
        filmed = straight(frames.images, model, settings.colmap, say)
        smaller = [reduced(image, settings.height) for image in filmed.images]  # the rows keep the size that they state
        return look_at(replace(filmed, images=smaller), raft or dis_flow())
    focal = None if settings.focal is None else settings.focal * frames.images[0].shape[1] / frames.full_width
    look = refined(found_cameras(frames, settings.source, focal, settings.straight, say), say)
    return look_at(look.filmed, raft) if raft else look


def matched(settings: PrepareSettings, sources: Sequence[str], model: Structure) -> Structure:
    """The part of a model that belongs to the frames, in their order; DataError where it lacks one."""
    missing = [name for name in sources if name not in model.names]
    if missing:
        raise DataError(f"{settings.colmap}: has no camera for {missing[0]} of {settings.source}, and for {len(missing)} of its "
                        f"{len(sources)} images in all; give the folder of just the images that COLMAP placed")
    return model.of(sources)


def straight(images: list[np.ndarray], model: Structure, subject: Path, say: Callable[[str], None]) -> Filmed:
    """Images as a camera takes them that does not bend, and its cameras."""
    size = images[0].shape[:2]
    require_size(subject, model.lens, size)
    lens = model.lens.scaled(size)
    pictures, focal = lens.straightened(images)
    say(f"cameras: focal length {focal:.1f} pixels, images bent by up to {lens.bend():.1f} pixels, {len(model.points)} points")
    return Filmed(pictures, model.poses_bounds(focal, size))


def found_cameras(frames: Frames, subject: Path, focal: float | None, is_straight: bool, say: Callable[[str], None]) -> Look:
    """Structure from motion, in rounds: what moves is found with the cameras of one and left out in the next.

    The cameras are kept that explain the flow best.
    """
    images, looks, masks = frames.images, [], None
    say(f"cameras: structure from motion of {len(images)} frames, in up to {ROUNDS} rounds; each leaves out what was seen to move")
    for number in range(ROUNDS):
        try:
            model = reconstruct(images, frames.sources, subject, focal, masks, is_straight)
        except DataError as error:
            if not looks:
                raise
            say(f"round {number + 1}: no cameras without what moves ({error})")
            break
        looks.append(look_at(straight(images, model, subject, say), dis_flow(), looks[-1] if looks else None))
        say(f"round {number + 1}: half of the flow is explained to {looks[-1].error:.3f} pixels, "
            f"{100 * looks[-1].motion.mean():.1f}% of the pixels move")
        if number and overlap(looks[-2].motion, looks[-1].motion) > SETTLED:
            break
        masks = [model.lens.bent(resize_nearest(mask, images[0].shape[:2])) for mask in looks[-1].motion]
    return min(looks, key=lambda look: look.error)


def refined(look: Look, say: Callable[[str], None]) -> Look:
    """The same with cameras adjusted to the flow, if that explains it better."""
    cameras = adjusted(look.filmed.cameras(), look.flows)
    stated, bounds = look.filmed.poses_bounds[:, [4, 9, 14]], torch.stack([cameras.near, cameras.far], dim=-1).numpy()
    rows = llff_rows(cameras.c2w.numpy(), stated, bounds)  # in the scaled and re-centred world of `cameras`
    again = look_at(replace(look.filmed, poses_bounds=rows), dis_flow(), look)
    say(f"adjusted to the flow: {again.error:.3f} pixels, {100 * again.motion.mean():.1f}% of the pixels move")
    return min(look, again, key=lambda found: found.error)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    return float((first & second).sum() / max(1, (first | second).sum())) if (first | second).any() else 1.0
