"""Writing a scene folder in the Semantic Dynamic Scene layout, plus exact truth in `truth/`.

Everything goes into a temporary folder beside the final one, which is renamed when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from semflow.data.synthetic.classes import CLASSES, foreground_text, labelmap_text
from semflow.data.synthetic.scene import SceneSpec
from semflow.geometry.cameras import Cameras
from semflow.geometry.poses import opengl_to_llff
from semflow.utils.errors import DataError

JPEG_OPTIONS = [  # truth of saturated colours: no chroma subsampling
    cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 3]
MAKER = "semflow synthetic scene"


def write_shared_files(root: Path) -> None:
    """labelmap.txt and foreground_object.txt of a root, which all its scenes share; made unless present.

    Raises:
        DataError: one of them exists with other contents, or the root cannot be a folder.
    """
    texts = {root / "labelmap.txt": labelmap_text(), root / "foreground_object.txt": foreground_text()}
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{root}: cannot be made a folder ({error.strerror}); choose another root") from error
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise DataError(f"{path}: holds other classes than the synthetic scenes; choose another root folder")
    for path, text in texts.items():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


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


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` on success and vanishes on failure."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if folder.exists():
            old = temporary.with_name(temporary.name + ".old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a uint8 grey (H, W) or RGB (H, W, 3) image as png or jpg, by its suffix.

    Raises:
        DataError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    if not cv2.imwrite(str(path), pixels, JPEG_OPTIONS if path.suffix == ".jpg" else PNG_OPTIONS):
        raise DataError(f"{path}: cannot be written; check the free space and the permissions")


def to_bytes(rgb) -> np.ndarray:
    """Float tensor in [0, 1] -> uint8 array, rounded."""
    return (rgb * 255 + 0.5).clamp(0, 255).byte().numpy()


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Class ids (H, W) -> label colours (H, W, 3) uint8."""
    return np.array(list(CLASSES.values()), dtype=np.uint8)[labels]


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one .npy array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed .npz archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def poses_bounds(cameras: Cameras, c2w: np.ndarray) -> np.ndarray:
    """(T, 17) LLFF rows of poses (T, 3, 4) with the size, focal length and bounds of `cameras`."""
    size = np.array([cameras.height, cameras.width, cameras.focal], dtype=np.float64)
    matrices = np.concatenate([opengl_to_llff(c2w), np.broadcast_to(size[:, None], (len(c2w), 3, 1))], axis=-1)
    bounds = np.stack([cameras.near.numpy(), cameras.far.numpy()], axis=-1)
    return np.concatenate([matrices.reshape(len(c2w), 15), bounds], axis=-1)


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
