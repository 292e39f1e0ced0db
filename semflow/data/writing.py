"""Writing the files of a scene folder in the Semantic Dynamic Scene layout.

Everything goes into a temporary folder beside the final one, which is renamed when it is complete.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from semflow.utils.errors import DataError

JPEG_OPTIONS = [  # truth of saturated colours: no chroma subsampling
    cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 3]


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


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one .npy array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed .npz archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
