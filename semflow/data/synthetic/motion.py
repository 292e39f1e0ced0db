"""How things move: affine local-to-world matrices as functions of a (fractional) time in frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Motion(Protocol):
    """A moving (or still) local frame."""

    def matrix(self, time: float) -> np.ndarray:
        """(4, 4) local-to-world matrix at `time`."""


def rotation(axis: str, angle: float) -> np.ndarray:
    """(3, 3) right-handed rotation by `angle` radians about the axis x, y or z."""
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    matrix = np.eye(3)
    matrix[j, j] = matrix[k, k] = math.cos(angle)
    matrix[k, j] = math.sin(angle)
    matrix[j, k] = -math.sin(angle)
    return matrix


def affine(linear: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(4, 4) matrix of x -> linear (3, 3) x + centre (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, centre
    return matrix


@dataclass(frozen=True)
class Path:
    """A swing through `centre`: centre + reach * sin(2π (time - middle) / period + phase), per axis."""

    centre: tuple[float, float, float]
    reach: tuple[float, float, float]
    period: tuple[float, float, float]
    phase: tuple[float, float, float]
    middle: float

    def at(self, time: float) -> np.ndarray:
        """(3,) position at `time`."""
        angle = 2 * math.pi * (time - self.middle) / np.array(self.period) + np.array(self.phase)
        return np.array(self.centre) + np.array(self.reach) * np.sin(angle)


@dataclass(frozen=True)
class Still:
    """A fixed pose: scaled by `size`, turned by `yaw` about y after `pitch` about x (radians), put at `centre`."""

    centre: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    size: float = 1.0

    def matrix(self, time: float) -> np.ndarray:
        """The same (4, 4) matrix at all times."""
        return affine(self.size * rotation("y", self.yaw) @ rotation("x", self.pitch), np.array(self.centre))


@dataclass(frozen=True)
class Slide:
    """Follows a path while turning about the vertical by `spin` radians a frame."""

    path: Path
    yaw: float
    spin: float

    def matrix(self, time: float) -> np.ndarray:
        """(4, 4) rigid motion."""
        return affine(rotation("y", self.yaw + self.spin * (time - self.path.middle)), self.path.at(time))


@dataclass(frozen=True)
class Roll:
    """Rolls on the floor without slipping, along x of its path; `radius` scales the unit sphere."""

    path: Path
    radius: float
    tilt: float

    def matrix(self, time: float) -> np.ndarray:
        """(4, 4) rotation by travelled length / radius, times the radius."""
        centre = self.path.at(time)
        turn = rotation("z", -(centre[0] - self.path.centre[0]) / self.radius) @ rotation("x", self.tilt)
        return affine(self.radius * turn, centre)


@dataclass(frozen=True)
class Hover:
    """Floats along a path, leaning and turning, squashed and stretched at constant volume.

    Attributes:
        path: way of the centre.
        radii: half axes (x, y, z) at rest.
        stretch: relative stretch of the y axis at its peak; the others shrink by its square root.
        period: frames of one pulse.
        lean: peak angle of the lean about z, radians.
        spin: turn about y in radians a frame.
    """

    path: Path
    radii: tuple[float, float, float]
    stretch: float
    period: float
    lean: float
    spin: float

    def matrix(self, time: float) -> np.ndarray:
        """(4, 4) non-rigid affine motion."""
        since = time - self.path.middle
        pulse = 1 + self.stretch * math.sin(2 * math.pi * since / self.period)
        shape = np.diag(np.array(self.radii) * [pulse**-0.5, pulse, pulse**-0.5])
        lean = rotation("z", self.lean * math.sin(2 * math.pi * since / (1.7 * self.period) + 0.6))
        return affine(lean @ shape @ rotation("y", self.spin * since), self.path.at(time))


@dataclass(frozen=True)
class Displaced:
    """Another motion, put elsewhere by a world vector."""

    motion: Motion
    shift: tuple[float, float, float]

    def matrix(self, time: float) -> np.ndarray:
        """(4, 4) matrix of the other motion, moved."""
        return affine(np.eye(3), np.array(self.shift)) @ self.motion.matrix(time)
