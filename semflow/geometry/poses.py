"""LLFF `poses_bounds.npy` <-> cameras.

A row holds a 3x5 matrix [R | t | (H, W, f)] whose rotation columns are (down, right, back), then the near
and far bounds. The world is scaled by 1 / (0.9 * 5th percentile of the near bounds) and the poses are
re-centred on their average (docs/method.md, "Space and time").
"""

from __future__ import annotations

import numpy as np
import torch

from semflow.geometry.cameras import Cameras

NEAR_MARGIN = 0.9
NEAR_PERCENTILE = 5.0


def llff_to_opengl(matrices: np.ndarray) -> np.ndarray:
    """(T, 3, 4) with rotation columns (down, right, back) -> columns (right, up, back)."""
    down, right, back, centre = (matrices[:, :, i] for i in range(4))
    return np.stack([right, -down, back, centre], axis=-1)


def opengl_to_llff(c2w: np.ndarray) -> np.ndarray:
    """Inverse of `llff_to_opengl`."""
    right, up, back, centre = (c2w[:, :, i] for i in range(4))
    return np.stack([-up, right, back, centre], axis=-1)


def average_pose(c2w: np.ndarray) -> np.ndarray:
    """(4, 4) mean pose: mean centre, mean viewing axis, mean up made orthogonal to it."""
    back = c2w[:, :, 2].sum(0)
    back = back / np.linalg.norm(back)
    right = np.cross(c2w[:, :, 1].sum(0), back)
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, c2w[:, :, 3].mean(0)], axis=-1)
    return pose


def recenter(c2w: np.ndarray) -> np.ndarray:
    """Express (T, 3, 4) poses in the frame of their average pose."""
    bottom = np.broadcast_to(np.array([0.0, 0.0, 0.0, 1.0]), (len(c2w), 1, 4))
    return (np.linalg.inv(average_pose(c2w)) @ np.concatenate([c2w, bottom], axis=1))[:, :3]


def world_scale(poses_bounds: np.ndarray) -> float:
    """Units of the scaled world per unit of the world of (T, 17) LLFF rows."""
    return 1.0 / (NEAR_MARGIN * float(np.percentile(np.asarray(poses_bounds, dtype=np.float64)[:, 15], NEAR_PERCENTILE)))


def scaled_vector(poses_bounds: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A vector (3,) of the world of (T, 17) LLFF rows in the scaled, re-centred world."""
    matrices = np.asarray(poses_bounds, dtype=np.float64)[:, :15].reshape(-1, 3, 5)
    return world_scale(poses_bounds) * average_pose(llff_to_opengl(matrices[:, :, :4]))[:3, :3].T @ vector


def cameras_from_llff(poses_bounds: np.ndarray, height: int, width: int) -> Cameras:
    """Cameras of (T, 17) LLFF rows for images of `height` x `width`, scaled and re-centred."""
    rows = np.asarray(poses_bounds, dtype=np.float64)
    matrices = rows[:, :15].reshape(-1, 3, 5)
    bounds = rows[:, 15:]
    scale = world_scale(rows)
    c2w = llff_to_opengl(matrices[:, :, :4])
    c2w[:, :, 3] *= scale
    stated_width, stated_focal = matrices[0, 1, 4], matrices[0, 2, 4]
    near, far = (torch.tensor(bounds[:, i] * scale, dtype=torch.float32) for i in range(2))
    return Cameras(
        c2w=torch.tensor(recenter(c2w), dtype=torch.float32),
        focal=float(stated_focal * width / stated_width),
        height=height,
        width=width,
        near=near,
        far=far,
    )


def llff_rows(c2w: np.ndarray, stated: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(T, 17) LLFF rows.

    Args:
        c2w: (T, 3, 4) camera to world, x right, y up, z back. stated: (3,) or (T, 3) height, width and focal length in pixels.
        bounds: (T, 2) near and far depth.
    """
    columns = np.broadcast_to(stated, (len(c2w), 3))[..., None]
    matrices = np.concatenate([opengl_to_llff(np.asarray(c2w, dtype=np.float64)), columns], axis=-1)
    return np.concatenate([matrices.reshape(len(c2w), 15), bounds], axis=-1)
