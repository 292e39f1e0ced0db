"""Camera paths for rendering, made from the training cameras.

Every path keeps to what training has seen: its cameras stay near the hull of the training cameras, never come near the
scene's near bound, and aim as the training cameras do. Poses are camera-to-world in the OpenGL frame (see cameras.py);
rotations stay rotations (orthonormal, determinant +1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.geometry.poses import average_pose
from semflow.utils.errors import ConfigError

OF_ONE_CAMERA = ("fixed-view", "dolly")  # paths whose function takes a `camera`
ELLIPSE_SHARE = 0.95  # share of the largest ellipse that fits into the hull of the cameras
FORWARD_SHARE = 0.3  # share of the near bound that a path may move towards the scene
SPIRAL_TURNS = 2
SPIRAL_DEPTH_RATE = 0.5  # oscillations along the axis per turn
SPIRAL_PERCENTILE = 90.0
SPIRAL_FAR_WEIGHT = 0.75  # weight of the far bound in the (harmonic) depth of focus


@dataclass(frozen=True)
class Trajectory:
    """P views of a path.

    Attributes:
        cameras: P cameras; `cameras.resized` gives another image size.
        times: (P,) float32 times in [0, T-1], fractional in general.
    """

    cameras: Cameras
    times: Tensor

    def __len__(self) -> int:
        return len(self.cameras)


def make_trajectory(
    path: str, cameras: Cameras, frames: int, time: float | None = None, camera: int | None = None
) -> Trajectory:
    """The path called `path` around the T training cameras.

    Args:
        path: one of PATHS.
        cameras: T training cameras, camera i at time i.
        frames: P, the number of views.
        time: hold the time here, in [0, T-1]; None lets it run from 0 to T-1 (`fixed-time`: the middle).
        camera: training camera of `fixed-view` (default 0) and `dolly` (default: the average camera).

    Raises:
        ConfigError: an unknown path, fewer than one frame, a time or camera out of range, or a camera given to
            a path that uses them all.
    """
    _check(path, cameras, frames, time, camera)
    poses = PATHS[path](cameras, frames, **({"camera": camera} if path in OF_ONE_CAMERA else {}))
    if path == "fixed-time" and time is None:
        time = (len(cameras) - 1) / 2
    times = torch.linspace(0.0, len(cameras) - 1.0, frames) if time is None else torch.full((frames,), float(time))
    return Trajectory(_cameras_at(cameras, poses), times.to(cameras.c2w.device))


def ellipse_poses(cameras: Cameras, frames: int) -> np.ndarray:
    """(P, 3, 4) closed ellipse in the principal plane of the camera centres, inside their hull there."""
    c2w = _poses(cameras)
    average = average_pose(c2w)
    offsets = c2w[:, :, 3] - average[:3, 3]  # (T, 3)
    axes = np.linalg.svd(offsets)[2][:2]  # (2, 3)
    axes = axes * np.where(axes[[0, 1], np.abs(axes).argmax(1)] < 0, -1.0, 1.0)[:, None]  # free of the solver's sign
    radii = _inscribed_radii(offsets @ axes.T)
    angle = np.linspace(0.0, 2 * np.pi, frames, endpoint=False)
    centres = average[:3, 3] + np.stack([np.cos(angle), np.sin(angle)], -1) * radii @ axes
    local = (centres - average[:3, 3]) @ average[:3, :3]
    return _aimed(local, average, convergence(cameras))


def fixed_view_poses(cameras: Cameras, frames: int, camera: int | None = None) -> np.ndarray:
    """(P, 3, 4) the pose of `camera` (None: the first), all the time."""
    return np.repeat(_poses(cameras)[[camera or 0]], frames, axis=0)


def smoothed_path_poses(cameras: Cameras, frames: int, smoothing: float = 1.0) -> np.ndarray:
    """(P, 3, 4) along the training path from its first to its last pose, both met exactly.

    Args:
        cameras: T training cameras.
        frames: P.
        smoothing: standard deviation, in frames, of the Gaussian that smooths the poses; 0 passes through every one.
    """
    knots = smooth_poses(_poses(cameras), smoothing)
    return interpolate_poses(knots, np.linspace(0.0, len(knots) - 1.0, frames))


def dolly_poses(cameras: Cameras, frames: int, camera: int | None = None) -> np.ndarray:
    """(P, 3, 4) forward along the axis of `camera` (None: the average camera), slow at both ends."""
    c2w = _poses(cameras)
    start = average_pose(c2w)[:3] if camera is None else c2w[camera]
    share = (1.0 - np.cos(np.pi * np.linspace(0.0, 1.0, frames))) / 2
    poses = np.repeat(start[None], frames, axis=0)
    poses[:, :, 3] -= (share * FORWARD_SHARE * float(cameras.near.min()))[:, None] * start[:, 2]
    return poses


def spiral_poses(cameras: Cameras, frames: int) -> np.ndarray:
    """(P, 3, 4) LLFF spiral around the average pose, looking at a point between the near and far bounds."""
    c2w = _poses(cameras)
    average = average_pose(c2w)
    near, far = float(cameras.near.min()), float(cameras.far.max())
    focus = 1.0 / ((1.0 - SPIRAL_FAR_WEIGHT) / near + SPIRAL_FAR_WEIGHT / far)
    local = (c2w[:, :, 3] - average[:3, 3]) @ average[:3, :3]
    radii = np.percentile(np.abs(local), SPIRAL_PERCENTILE, axis=0)
    radii[2] = min(radii[2], FORWARD_SHARE * near)
    angle = np.linspace(0.0, 2 * np.pi * SPIRAL_TURNS, frames, endpoint=False)
    turns = np.stack([np.cos(angle), -np.sin(angle), -np.sin(angle * SPIRAL_DEPTH_RATE)], axis=-1)
    return _aimed(turns * radii, average, 1.0 / focus)


# name -> (cameras, frames) -> (P, 3, 4) poses
PATHS = {"novel": ellipse_poses, "fixed-view": fixed_view_poses, "fixed-time": smoothed_path_poses, "dolly": dolly_poses,
         "spiral": spiral_poses}


def convergence(cameras: Cameras) -> float:
    """Inverse distance (1 / world units) at which the training cameras' axes meet; 0 = parallel or diverging.

    Fitted by least squares to the slopes of the axes against the positions of the cameras.
    """
    c2w = _poses(cameras)
    average = average_pose(c2w)
    offsets = ((c2w[:, :, 3] - average[:3, 3]) @ average[:3, :3])[:, :2]
    backs = c2w[:, :, 2] @ average[:3, :3]
    slopes = backs[:, :2] / np.maximum(backs[:, 2:], 0.1)
    spread = float((offsets**2).sum())
    if spread < 1e-12:
        return 0.0
    return float(np.clip((slopes * offsets).sum() / spread, 0.0, 1.0 / float(cameras.near.min())))


def smooth_poses(c2w: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing of (T, 3, 4) poses over their index; the first and the last pose stay.

    The path is continued beyond its ends by point reflection, which keeps the ends and any uniform motion as they are.
    """
    reach = min(int(np.ceil(3 * sigma)), len(c2w) - 1)
    if reach < 1:
        return c2w
    before = [_reflected(c2w[k], c2w[0]) for k in range(reach, 0, -1)]
    after = [_reflected(c2w[-1 - k], c2w[-1]) for k in range(1, reach + 1)]
    padded = np.concatenate([np.reshape(before, (-1, 3, 4)), c2w, np.reshape(after, (-1, 3, 4))])
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    smooth = np.stack([np.tensordot(weights, padded[i : i + 2 * reach + 1], axes=1) for i in range(len(c2w))])
    return np.concatenate([nearest_rotation(smooth[:, :, :3]), smooth[:, :, 3:]], axis=-1)


def interpolate_poses(c2w: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Poses (P, 3, 4) at fractional indices (P,) in [0, T-1]: Catmull-Rom centres, slerped rotations."""
    if len(c2w) == 1:
        return np.repeat(c2w, len(positions), axis=0)
    index = np.clip(np.floor(positions).astype(int), 0, len(c2w) - 2)
    s = (positions - index)[:, None]
    centres = c2w[:, :, 3]
    knots = np.concatenate([2 * centres[:1] - centres[1:2], centres, 2 * centres[-1:] - centres[-2:-1]])
    a, b, c, d = (knots[index + k] for k in range(4))
    moved = b + 0.5 * s * (c - a + s * (2 * a - 5 * b + 4 * c - d + s * (3 * (b - c) + d - a)))
    return np.concatenate([slerp(c2w[index, :, :3], c2w[index + 1, :, :3], s[:, 0]), moved[..., None]], axis=-1)


def slerp(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Rotations (P, 3, 3) at `share` (P,) of the way, at constant speed, between rotations under 180 degrees apart."""
    between = np.swapaxes(first, -1, -2) @ second
    skew = (between - np.swapaxes(between, -1, -2)) / 2
    axis = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=-1)
    sine = np.linalg.norm(axis, axis=-1)
    angle = share * np.arctan2(sine, (np.trace(between, axis1=-2, axis2=-1) - 1) / 2)
    unit = skew / np.maximum(sine, 1e-12)[:, None, None]
    turn = np.eye(3) + np.sin(angle)[:, None, None] * unit + (1 - np.cos(angle))[:, None, None] * (unit @ unit)
    return first @ turn


def nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) nearest to the given matrices in the Frobenius norm."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def _reflected(pose: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """(3, 4) pose as far beyond `mirror` as `pose` lies before it."""
    rotation = mirror[:, :3] @ pose[:, :3].T @ mirror[:, :3]
    return np.concatenate([rotation, (2 * mirror[:, 3] - pose[:, 3])[:, None]], axis=-1)


def _inscribed_radii(points: np.ndarray) -> np.ndarray:
    """(2,) semi-axes, in proportion to the spread of (T, 2) centred points, of an ellipse inside their hull."""
    spread = points.std(axis=0)
    angle = np.linspace(0.0, 2 * np.pi, 720, endpoint=False)
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    hull = (points @ normals.T).max(axis=0)  # support function: the hull's reach along each normal
    ellipse = np.linalg.norm(spread * normals, axis=-1)
    counts = ellipse > 1e-9
    return ELLIPSE_SHARE * spread * (hull[counts] / ellipse[counts]).min() if counts.any() else np.zeros(2)


def _aimed(local: np.ndarray, average: np.ndarray, inverse_focus: float) -> np.ndarray:
    """(P, 3, 4) poses at positions (P, 3) of the average camera's frame, looking at (0, 0, -1 / inverse_focus)."""
    back = local * inverse_focus + np.array([0.0, 0.0, 1.0])
    back /= np.linalg.norm(back, axis=-1, keepdims=True)
    right = np.cross(np.array([0.0, 1.0, 0.0]), back)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    pose = np.stack([right, np.cross(back, right), back, local], axis=-1)  # (P, 3, 4) in the average frame
    world = average[:3, :3] @ pose
    world[:, :, 3] += average[:3, 3]
    return world


def _poses(cameras: Cameras) -> np.ndarray:
    """(T, 3, 4) float64 poses with their rounding to float32 undone: rotations exactly orthonormal again."""
    c2w = cameras.c2w.detach().cpu().double().numpy()
    return np.concatenate([nearest_rotation(c2w[:, :, :3]), c2w[:, :, 3:]], axis=-1)


def _cameras_at(cameras: Cameras, poses: np.ndarray) -> Cameras:
    """The training cameras' lens at other poses, with the bounds of the whole scene."""
    c2w = torch.from_numpy(np.ascontiguousarray(poses)).to(cameras.c2w)
    near, far = (value.expand(len(poses)).clone() for value in (cameras.near.min(), cameras.far.max()))
    return replace(cameras, c2w=c2w, near=near, far=far)


def _check(path: str, cameras: Cameras, frames: int, time: float | None, camera: int | None) -> None:
    """Refuse what no path can be made of."""
    if path not in PATHS:
        raise ConfigError(f"path = {path!r}: choose one of {', '.join(PATHS)}")
    if frames < 1:
        raise ConfigError(f"frames = {frames}: must be at least 1")
    last = len(cameras) - 1
    if time is not None and not 0 <= time <= last:
        raise ConfigError(f"time = {time}: must lie between 0 and {last}, the times of the training frames")
    if camera is not None and path not in OF_ONE_CAMERA:
        raise ConfigError(f"camera = {camera}: only {' and '.join(OF_ONE_CAMERA)} use it, {path} does not; leave it out")
    if camera is not None and not 0 <= camera <= last:
        raise ConfigError(f"camera = {camera}: must lie between 0 and {last}, the training cameras")
