"""What a synthetic scene holds: its specification, its things, its cameras."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch

from semflow.data.synthetic.classes import CLASS_IDS, MOVING
from semflow.data.synthetic.motion import Motion, Still
from semflow.data.synthetic.noise import generator
from semflow.data.synthetic.shapes import Shape
from semflow.data.synthetic.textures import Texture
from semflow.geometry.cameras import Cameras
from semflow.utils.errors import ConfigError

FOCAL = 0.86  # focal length / image width
PIVOT_DISTANCE = 7.6  # the cameras look at a point this far away
ARC_REACH = 0.62  # sideways way of the camera to either side


@dataclass(frozen=True)
class NoiseSpec:
    """Noise added to what a real capture would have to estimate; 0 = exact.

    Attributes:
        flow: standard deviation per component, relative to the frame's root mean square flow length.
        depth: standard deviation of the inverse depth, relative to itself, per pixel.
        poses: standard deviation of the camera centres relative to the nearest depth, and of the
            orientations in radians.
        labels: share of the pixels of the training labels replaced by a random class.
    """

    flow: float = 0.0
    depth: float = 0.0
    poses: float = 0.0
    labels: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ConfigError(f"noise_{name} = {value}: must lie between 0 and 1")


NO_NOISE = NoiseSpec()


@dataclass(frozen=True)
class SceneSpec:
    """Everything that determines a scene, to the last bit.

    Attributes:
        name: folder name.
        seed: seed of the arrangement, the textures and the noise.
        frames: number of frames and of cameras, at least 2.
        height: height of the images in images_2; images/ is twice as large.
        width: width of the images in images_2.
        objects: kinds of the moving objects, of `MOVING`; may repeat.
        noise: noise on flow, depth, poses and labels.
        without: kinds of `objects` that are left out; everything else stays where it is.
        shift: kinds of `objects` that are displaced by world vectors; everything else stays.
    """

    name: str
    seed: int = 0
    frames: int = 12
    height: int = 135
    width: int = 240
    objects: tuple[str, ...] = ("balloon", "ball", "crate")
    noise: NoiseSpec = NO_NOISE
    without: tuple[str, ...] = ()
    shift: tuple[tuple[str, tuple[float, float, float]], ...] = ()

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.name):
            raise ConfigError(f"name = {self.name!r}: use letters, digits, '_', '-' and '.' only")
        for key, low in (("seed", 0), ("frames", 2), ("height", 8), ("width", 8)):
            if getattr(self, key) < low:
                raise ConfigError(f"{key} = {getattr(self, key)}: must be at least {low}")
        if not self.objects:
            raise ConfigError(f"objects is empty: name at least one of {', '.join(MOVING)}")
        for kind in self.objects:
            if kind not in MOVING:
                raise ConfigError(f"objects: unknown kind {kind!r}, choose among {', '.join(MOVING)}")
        for key, kinds in (("without", self.without), ("shift", [kind for kind, _ in self.shift])):
            for kind in kinds:
                if kind not in self.objects:
                    raise ConfigError(f"{key}: {kind!r} is not among the objects {', '.join(self.objects)}")

    def generator(self, purpose: str) -> np.random.Generator:
        """A random generator of its own for each purpose, so that none disturbs another."""
        return generator(self.seed, purpose)


@dataclass(frozen=True)
class Thing:
    """One instance: a shape that a motion puts into the world, with a class and a texture.

    Attributes:
        kind: class name.
        shape: surface in its local frame.
        motion: local-to-world matrices over time.
        texture: colours over the shape's texture coordinates.
    """

    kind: str
    shape: Shape
    motion: Motion
    texture: Texture

    @property
    def class_id(self) -> int:
        return CLASS_IDS[self.kind]

    @property
    def moves(self) -> bool:
        """True if it is anywhere else at another time."""
        return not isinstance(self.motion, Still)


@dataclass(frozen=True)
class Scene:
    """Things and cameras.

    Attributes:
        spec: what it was made from.
        things: all instances; their position in the list is the instance number.
        cameras: T cameras (float64, world units, full size 2H x 2W; camera i takes frame i).
    """

    spec: SceneSpec
    things: tuple[Thing, ...]
    cameras: Cameras

    def class_ids(self) -> torch.Tensor:
        """(I + 1,) int64 class of each instance; the last entry, reached as instance -1, is background."""
        return torch.tensor([thing.class_id for thing in self.things] + [0])

    def moving(self) -> torch.Tensor:
        """(I + 1,) bool, True = moving; the last entry is the background."""
        return torch.tensor([thing.moves for thing in self.things] + [False])


def arc_cameras(spec: SceneSpec) -> Cameras:
    """Cameras on an arc around a pivot behind the objects, bobbing a little; bounds are not known yet."""
    c2w = []
    for place in np.linspace(-1, 1, spec.frames):
        pivot = np.array([0.0, -0.25, -PIVOT_DISTANCE])
        angle = ARC_REACH / PIVOT_DISTANCE * place
        centre = pivot + PIVOT_DISTANCE * np.array([math.sin(angle), 0.0, math.cos(angle)])
        centre[1] = 0.15 + 0.06 * math.cos(math.pi * place)
        back = (centre - pivot) / np.linalg.norm(centre - pivot)
        right = np.cross([0.0, 1.0, 0.0], back)
        right /= np.linalg.norm(right)
        c2w.append(np.stack([right, np.cross(back, right), back, centre], axis=-1))
    unknown = torch.full((spec.frames,), float("nan"), dtype=torch.float64)
    width = 2 * spec.width
    return Cameras(torch.tensor(np.stack(c2w)), FOCAL * width, 2 * spec.height, width, near=unknown, far=unknown)
