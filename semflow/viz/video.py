"""PNG pictures and mp4 videos, complete on the disk or absent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from semflow.utils.errors import SemflowError
from semflow.utils.files import atomic_path

QUALITY = 8  # imageio's scale, 0 to 10


class VideoError(SemflowError):
    """A video cannot be written; the message names the cause and what to do."""


def require_ffmpeg() -> str:
    """Path of the ffmpeg program.

    Raises:
        VideoError: there is none.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise VideoError("ffmpeg not found, it is needed for mp4: run `pip install 'imageio[ffmpeg]'`") from error


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W) uint8 as PNG; the folder is made where missing, a file of this name is replaced."""
    with atomic_path(path) as temporary:
        imageio.imwrite(temporary, image, format="png")


def read_png(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 picture written by `write_png`."""
    return np.asarray(imageio.imread(path))


def write_video(path: Path, images: Iterable[np.ndarray], fps: float) -> None:
    """Write an mp4 (H.264, yuv420p) that every player opens.

    Args:
        path: file ending in .mp4; its folder is made where missing, a file of this name is replaced.
        images: (H, W, 3) uint8 frames of one size, consumed one at a time; odd sizes are padded by one pixel.
        fps: frames per second.

    Raises:
        VideoError: no ffmpeg.
        ValueError: no frames.
    """
    require_ffmpeg()
    with atomic_path(path) as temporary:
        writer = imageio.get_writer(
            temporary, format="FFMPEG", mode="I", fps=fps, codec="libx264", pixelformat="yuv420p",
            quality=QUALITY, macro_block_size=1, ffmpeg_log_level="error",
        )
        count = 0
        try:
            for image in images:
                writer.append_data(pad_even(image))
                count += 1
        finally:
            writer.close()
        if count == 0:
            raise ValueError(f"{path}: a video needs at least one frame")


def pad_even(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) with its last row and column repeated where H or W is odd (yuv420p needs even sizes)."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
