"""What only synthetic scenes write: the shared classes of their root, the rows of their cameras, their description."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from semflow.data.label_map import check_class_files, class_files
from semflow.data.synthetic.classes import CLASSES, MOVING
from semflow.data.synthetic.scene import SceneSpec
from semflow.geometry.cameras import Cameras
from semflow.geometry.poses import llff_rows
from semflow.utils.errors import DataError
from semflow.utils.files import write_text

MAKER = "semflow synthetic scene"


def write_shared_files(root: Path) -> None:
    """labelmap.txt and foreground_object.txt of a root, which all its scenes share; made unless present.

    Raises:
        DataError: one of them exists with other contents, or the root cannot be a folder.
    """
    texts = class_files(root, CLASSES, MOVING)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{root}: cannot be made a folder ({error.strerror}); choose another root") from error
    check_class_files(texts, "the synthetic scenes")
    for path, text in texts.items():
        write_text(path, text)


def check_target(folder: Path, overwrite: bool) -> None:
    """Refuse a target that would lose something.

    Raises:
        DataError: the folder holds files and may not, or must not, be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; move it away or choose another name")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise DataError(f"{folder}: already exists; choose another name or say --overwrite")
    description = folder / "scene.json"
    if not description.is_file() or MAKER not in description.read_text(encoding="utf-8", errors="replace"):
        raise DataError(f"{folder}: is not a synthetic scene, so it is never overwritten; choose another name")


def to_bytes(rgb) -> np.ndarray:
    """Float tensor in [0, 1] -> uint8 array, rounded."""
    return (rgb * 255 + 0.5).clamp(0, 255).byte().numpy()


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Class ids (H, W) -> label colours (H, W, 3) uint8."""
    return np.array(list(CLASSES.values()), dtype=np.uint8)[labels]


def poses_bounds(cameras: Cameras, c2w: np.ndarray) -> np.ndarray:
    """(T, 17) LLFF rows of poses (T, 3, 4) with the size, focal length and bounds of `cameras`."""
    bounds = np.stack([cameras.near.numpy(), cameras.far.numpy()], axis=-1)
    return llff_rows(c2w, np.array([cameras.height, cameras.width, cameras.focal]), bounds)


def write_description(path: Path, spec: SceneSpec, things, disparity_scale: np.ndarray) -> None:
    """scene.json: what the scene was made from, its instances, and disparity = scale / depth + shift per frame."""
    description = {
        "maker": MAKER,
        "spec": asdict(spec),
        "size": {"images": [2 * spec.height, 2 * spec.width], "images_2": [spec.height, spec.width]},
        "instances": [{"class": thing.kind, "moves": thing.moves} for thing in things],
        "disparity_scale_and_shift": disparity_scale.tolist(),
    }
    path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
