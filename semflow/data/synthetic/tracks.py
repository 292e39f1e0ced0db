"""True tracks of the surface points that a synthetic scene shows, from the specification that it was made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semflow.data.synthetic.arrange import build_scene
from semflow.data.synthetic.raycast import draw_all, make_view, single_threaded
from semflow.data.synthetic.scene import NoiseSpec, Scene, SceneSpec
from semflow.data.synthetic.truth import moved_points, unoccluded
from semflow.data.synthetic.writer import MAKER
from semflow.utils.errors import DataError

SAME_DEPTH = 1e-3  # relative difference up to which the scene is the one in the folder


@dataclass(frozen=True)
class TrackTruth:
    """Where the surface points of the N pixels of an image are over time.

    Attributes:
        uv: (N, T, 2) pixels. visible: (N, T) bool, inside the image and not covered. moving: (N,) bool.
        hit: (N,) bool, the pixel shows a surface; the other values mean nothing where it does not.
    """

    uv: Tensor
    visible: Tensor
    moving: Tensor
    hit: Tensor


def find_scene(folder: Path) -> Scene | None:
    """The synthetic scene of a folder, made again from its specification; None where the folder holds no such scene.

    Raises:
        DataError: the folder holds another scene than this version makes of its specification.
    """
    path = Path(folder) / "scene.json"
    if not path.is_file():
        return None
    description = json.loads(path.read_text(encoding="utf-8"))
    if description.get("maker") != MAKER:
        return None
    values = description["spec"]
    spec = SceneSpec(**{key: as_tuples(value) for key, value in values.items()} | {"noise": NoiseSpec(**values["noise"])})
    scene = build_scene(spec)
    depth = np.load(Path(folder) / "truth" / "depth" / "000.npy")
    view = make_view(scene.cameras, 0, *depth.shape)
    made = draw_all(scene.things, view, 0.0, colored=False).depth.numpy()
    if not np.allclose(made, depth, rtol=SAME_DEPTH):
        raise DataError(f"{path}: the scene was made by another version of semflow; make it again by semflow make-scene")
    return scene


def as_tuples(value):
    """A value of JSON, its lists as tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


@single_threaded()
def true_tracks(scene: Scene, start: int, watching: Sequence[int], height: int, width: int) -> TrackTruth:
    """Tracks of all pixels, row by row, of the image (height, width) that camera `watching[start]` takes at time `start`.

    Args:
        watching: the camera that sees the points at each of the T times.
    """
    view = make_view(scene.cameras, watching[start], height, width)
    surfaces = draw_all(scene.things, view, float(start), colored=False)
    hit, cameras = surfaces.instance >= 0, scene.cameras.resized(height, width)
    places, seen = [], []
    for time, camera in enumerate(watching):
        points = torch.where(hit[..., None], moved_points(scene, surfaces, float(time)), cameras.center(camera))
        uv, in_front = cameras.project(points, camera)
        visible = hit & in_front & cameras.inside(uv) & unoccluded(scene, cameras, surfaces, points, camera, time)
        places.append(uv.float().flatten(0, 1))
        seen.append(visible.flatten())
    moving = scene.moving()[surfaces.instance].flatten()
    return TrackTruth(torch.stack(places, 1), torch.stack(seen, 1), moving, hit.flatten())


@single_threaded()
def true_motion(scene: Scene, time: int, camera: int, height: int, width: int) -> tuple[Tensor, Tensor] | None:
    """Scene motion from a time to the next, seen by a camera at rest.

    Returns:
        (H, W, 2) float32 pixels and (H, W) bool, True where something moves; None for the last time, which has no next.
    """
    if time + 1 >= scene.spec.frames:
        return None
    surfaces = draw_all(scene.things, make_view(scene.cameras, camera, height, width), float(time), colored=False)
    hit, cameras = surfaces.instance >= 0, scene.cameras.resized(height, width)
    points = torch.where(hit[..., None], moved_points(scene, surfaces, float(time + 1)), cameras.center(camera))
    uv, in_front = cameras.project(points, camera)
    return (uv - cameras.pixels()).float(), hit & in_front & scene.moving()[surfaces.instance]
