"""Noise on what a real capture would have to estimate; each kind draws from its own generator."""

from __future__ import annotations

import math

import numpy as np

from semflow.data.synthetic.motion import rotation


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A random generator of its own for each purpose, so that none disturbs another."""
    return np.random.default_rng([abs(seed), *purpose.encode()])


def noisy_flow(flow: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Flow (H, W, 2) plus Gaussian noise of `amount` times its root mean square length per component."""
    length = math.sqrt(float((flow.astype(np.float64) ** 2).sum(-1).mean()))
    return (flow + amount * length * rng.standard_normal(flow.shape)).astype(np.float32)


def noisy_disparity(disparity: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Inverse depth (H, W) times 1 + `amount` * Gaussian noise."""
    return disparity * (1 + amount * rng.standard_normal(disparity.shape))


def noisy_poses(c2w: np.ndarray, nearest_depth: float, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Poses (T, 3, 4) with centres shifted by `amount` * nearest depth and turned by `amount` radians."""
    noisy = c2w.copy()
    for pose in noisy:
        pose[:, 3] += amount * nearest_depth * rng.standard_normal(3)
        for axis, angle in zip("xyz", amount * rng.standard_normal(3)):
            pose[:, :3] = pose[:, :3] @ rotation(axis, angle)
    return noisy


def noisy_labels(labels: np.ndarray, classes: int, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Labels (H, W) with the share `amount` of the pixels replaced by another of `classes` classes."""
    shift = rng.integers(1, classes, labels.shape)
    return np.where(rng.random(labels.shape) < amount, (labels + shift) % classes, labels)
