"""Making whole scene folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from semflow.data.synthetic.arrange import build_scene
from semflow.data.synthetic.classes import CLASSES
from semflow.data.synthetic.noise import noisy_disparity, noisy_flow, noisy_labels, noisy_poses
from semflow.data.synthetic.raycast import Surfaces, single_threaded
from semflow.data.synthetic.scene import NO_NOISE, NoiseSpec, Scene, SceneSpec
from semflow.data.synthetic.truth import Shot, area_average, flow_between, shots_of_camera
from semflow.data.synthetic.writer import (
    check_target,
    label_colors,
    poses_bounds,
    to_bytes,
    write_description,
    write_shared_files,
)
from semflow.data.writing import replaced_folder, write_array, write_arrays, write_image

DEMO = {"name": "balloon", "seed": 0, "frames": 12, "height": 108, "width": 192, "objects": ("balloon", "ball", "crate")}
DEMO_SCENES = {scene["name"]: scene for scene in (  # made where a configuration asks for them and they are missing
    DEMO,
    DEMO | {"name": "flag", "seed": 1, "objects": ("flag", "ball", "crate")},
    DEMO | {"name": "mixed", "seed": 2, "objects": ("balloon", "flag", "ball")},
)}

MAX_WORKERS = 4
BOUND_MARGIN = 0.02  # of the depth, left before the nearest and behind the farthest surface


@dataclass(frozen=True)
class CameraTruth:
    """What one camera sees at all times.

    Attributes:
        depth: (T, H, W) float16 depth.
        labels: (T, H, W) uint8 class ids.
        near: near bound over all times.
        far: far bound over all times.
        frame: (H, W) surfaces of its own training frame.
    """

    depth: np.ndarray
    labels: np.ndarray
    near: float
    far: float
    frame: Surfaces


def make_scene(root: Path, name: str, *, seed: int = 0, frames: int = 12, height: int = 135, width: int = 240,
               objects: tuple[str, ...] = ("balloon", "ball", "crate"), noise: NoiseSpec = NO_NOISE,
               without: tuple[str, ...] = (), shift: Mapping[str, tuple[float, float, float]] | None = None,
               overwrite: bool = False) -> Path:
    """Write a synthetic scene with exact truth in the Semantic Dynamic Scene layout.

    Args:
        root: data root; labelmap.txt and foreground_object.txt are written there unless present.
        name: folder of the scene.
        seed: seed of everything random.
        frames: number of frames, times and cameras.
        height: height of images_2 (images/ is twice as large).
        width: width of images_2.
        objects: kinds of the moving objects.
        noise: noise on flow, depth, poses and labels; `truth/` stays exact.
        without: kinds of objects that are left out; cameras, room and all other objects are the same as with them.
        shift: kind -> vector in world units of the scene, by which those objects are displaced; all else is the same.
        overwrite: replace an existing synthetic scene.

    Returns:
        The folder of the scene.

    Raises:
        DataError: the folder exists and may not be replaced, or the root has other classes.
        ConfigError: a value is out of range.
    """
    spec = SceneSpec(name, seed, frames, height, width, tuple(objects), noise, tuple(without), tuple((shift or {}).items()))
    folder = Path(root) / name
    check_target(folder, overwrite)
    write_shared_files(Path(root))
    with replaced_folder(folder) as target, torch.no_grad(), single_threaded():
        write_scene(target, build_scene(spec))
    return folder


def make_missing_scenes(root: Path, names: Iterable[str]) -> list[Path]:
    """Write those of the named DEMO_SCENES that are not below `root` yet; returns their folders. Other names are left alone."""
    missing = [name for name in names if name in DEMO_SCENES and not (root / name).exists()]
    for name in missing:
        print(f"{root / name} is missing: making this demo scene there first", flush=True)
    return [make_scene(root, **DEMO_SCENES[name]) for name in missing]


def write_scene(folder: Path, scene: Scene) -> None:
    """Write every file of a scene into an existing folder."""
    spec = scene.spec
    workers = min(MAX_WORKERS, os.cpu_count() or 1, spec.frames)
    bar = tqdm(total=spec.frames**2, desc=f"Ray casting {spec.name}", unit="image")
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    with bar, pool:
        seen = list(pool.map(lambda camera: write_camera(folder, scene, camera, bar), range(spec.frames)))
    write_depths(folder, scene, seen)
    write_poses(folder, scene, seen)
    write_flows(folder, scene, [camera.frame for camera in seen])


def write_camera(folder: Path, scene: Scene, camera: int, bar: tqdm) -> CameraTruth:
    """Write the images of one camera at every time; returns what the other files need."""
    depth, labels, bounds = [], [], []
    with torch.no_grad():
        for shot in shots_of_camera(scene, camera):
            write_multiview(folder, shot)
            if shot.time == camera:
                write_frame(folder, scene, shot)
                frame = shot.surfaces
            depth.append(shot.surfaces.depth.half().numpy())
            labels.append(shot.labels.byte().numpy())
            bounds.append(shot.surfaces.bounds())
            bar.update()
    near, far = min(low for low, _ in bounds), max(high for _, high in bounds)
    return CameraTruth(np.stack(depth), np.stack(labels), near * (1 - BOUND_MARGIN), far * (1 + BOUND_MARGIN), frame)


def write_multiview(folder: Path, shot: Shot) -> None:
    """The truth image and labels of one camera at one time (1-based names).

    Labels drawn at the size of the image and reduced again would lie half a pixel beside those of the frames.
    """
    place = Path(f"{shot.time + 1:08d}") / f"cam{shot.camera + 1:02d}"
    write_image(folder / "multiview_GT" / place.with_suffix(".jpg"), to_bytes(shot.rgb))
    labels = shot.labels.repeat_interleave(2, 0).repeat_interleave(2, 1)
    write_image(folder / "multiview_GT_semantic" / place.with_suffix(".png"), label_colors(labels.numpy()))


def write_frame(folder: Path, scene: Scene, shot: Shot) -> None:
    """Images, labels and motion mask of a training frame."""
    name, instance = f"{shot.time:03d}.png", shot.surfaces.instance
    write_image(folder / "images" / name, to_bytes(shot.rgb))
    write_image(folder / "images_2" / name, to_bytes(area_average(shot.rgb, 2)))
    write_image(folder / "motion_masks" / name, scene.moving()[instance].numpy().astype(np.uint8) * 255)
    labels = scene.class_ids()[instance].numpy()
    rng = scene.spec.generator(f"labels {shot.time}")
    labels = noisy_labels(labels, len(CLASSES), scene.spec.noise.labels, rng)
    write_image(folder / "SegmentationClass_train" / name, label_colors(labels))


def write_depths(folder: Path, scene: Scene, seen: list[CameraTruth]) -> None:
    """Inverse depth of the training frames with an unknown scale and shift each; exact depth of all views."""
    spec = scene.spec
    unknown = spec.generator("disparity").uniform((700.0, 20.0), (1300.0, 120.0), (spec.frames, 2))
    for time in range(spec.frames):
        depth = seen[time].frame.depth.numpy()
        rng = spec.generator(f"depth {time}")
        disparity = unknown[time, 0] * noisy_disparity(1 / depth, spec.noise.depth, rng) + unknown[time, 1]
        write_array(folder / "disp" / f"{time:03d}.npy", disparity.astype(np.float32))
        write_array(folder / "truth" / "depth" / f"{time:03d}.npy", depth.astype(np.float32))
        write_arrays(
            folder / "truth" / "multiview" / f"{time:03d}.npz",
            depth=np.stack([camera.depth[time] for camera in seen]),
            labels=np.stack([camera.labels[time] for camera in seen]),
        )
    write_description(folder / "scene.json", spec, scene.things, unknown)


def write_poses(folder: Path, scene: Scene, seen: list[CameraTruth]) -> None:
    """poses_bounds.npy, with noise if asked for, and the exact one in truth/."""
    cameras = replace(
        scene.cameras,
        near=torch.tensor([camera.near for camera in seen], dtype=torch.float64),
        far=torch.tensor([camera.far for camera in seen], dtype=torch.float64),
    )
    exact = cameras.c2w.numpy()
    write_array(folder / "truth" / "poses_bounds.npy", poses_bounds(cameras, exact))
    noisy = noisy_poses(exact, float(cameras.near.min()), scene.spec.noise.poses, scene.spec.generator("poses"))
    write_array(folder / "poses_bounds.npy", poses_bounds(cameras, noisy))


def write_flows(folder: Path, scene: Scene, frames: list[Surfaces]) -> None:
    """Forward and backward flow between neighbouring training frames."""
    for source, surfaces in enumerate(frames):
        for target, direction in ((source + 1, "fwd"), (source - 1, "bwd")):
            if 0 <= target < len(frames):
                truth = flow_between(scene, surfaces, source, target)
                rng = scene.spec.generator(f"flow {source} {direction}")
                flow = noisy_flow(truth.flow.numpy(), scene.spec.noise.flow, rng)
                path = folder / "flow" / f"{source:03d}_{direction}.npz"
                write_arrays(path, flow=flow, mask=truth.visible.numpy().astype(np.float32))
