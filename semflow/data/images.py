"""Reading and resizing images and masks.

Sizes are (height, width). Nearest-neighbour reading respects pixel centres: the target pixel i of n takes the
source pixel in which the centre (i + 0.5) * source / n lies; at an exact 2:1 reduction, where that centre lies
on a border, it is the lower right pixel of the four.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np

from semflow.data.problems import BrokenFile

Size = tuple[int, int]
ASPECT_TOLERANCE = 2.0  # pixels of the smaller image: halved odd sizes are rounded up or down
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def describe(size: Size) -> str:
    """(height, width) as "480x270" (width first, as sizes are written)."""
    return f"{size[1]}x{size[0]}"


def require_file(path: Path, remedy: str) -> None:
    """Raise BrokenFile where `path` is no file or is empty."""
    if not path.is_file():
        raise BrokenFile(path, "no such file", remedy)
    if path.stat().st_size == 0:
        raise BrokenFile(path, "is empty (0 bytes)", remedy)


def require_aspect(path: Path, size: Size, frame_size: Size, what: str = "the frames") -> None:
    """Raise BrokenFile where `size` has another aspect ratio than `frame_size` (rounding allowed)."""
    small, large = sorted((size, frame_size), key=lambda s: s[1])
    if abs(large[0] * small[1] / large[1] - small[0]) > ASPECT_TOLERANCE:
        raise BrokenFile(
            path,
            f"is {describe(size)}, another aspect ratio than {what} ({describe(frame_size)})",
            "make it from the same, uncropped frames",
        )


def read_image(path: Path) -> np.ndarray:
    """An image as stored (orientation tags are ignored): (h, w, 3) uint8 RGB; palettes are resolved, alpha dropped.

    Raises:
        BrokenFile: missing, empty, unreadable, truncated, or deeper than 8 bits.
    """
    remedy = "copy or make the file again"
    require_file(path, remedy)
    try:
        with iio.imopen(path, "r", plugin="pillow") as file:
            mode = file.metadata(index=0, exclude_applied=False).get("mode")
            image = None if mode in DEEP_MODES else np.asarray(file.read(index=0, mode="RGB"))
    except Exception as error:  # broken bytes make the decoders raise nearly anything
        raise BrokenFile(path, "is not a readable image, or is cut short", remedy) from error
    if image is None:
        raise BrokenFile(path, "has more than 8 bits per pixel and channel", "save it with 8 bits")
    return image


def resize_nearest(image: np.ndarray, size: Size) -> np.ndarray:
    """(h, w, ...) -> (H, W, ...), the nearest pixel by centres."""
    rows, columns = (
        ((2 * np.arange(n) + 1) * source) // (2 * n) for n, source in zip(size, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns]


def resize_bilinear(image: np.ndarray, size: Size) -> np.ndarray:
    """(h, w[, c]) float -> (H, W[, c]), bilinear, pixel centres at half-integers."""
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_area(image: np.ndarray, size: Size) -> np.ndarray:
    """(h, w, 3) float -> (H, W, 3): averages over the area of a target pixel (bilinear when enlarging)."""
    if image.shape[0] < size[0] or image.shape[1] < size[1]:
        return resize_bilinear(image, size)
    return image if image.shape[:2] == size else cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def read_rgb(path: Path, size: Size | None = None) -> np.ndarray:
    """An image as (H, W, 3) float32 in [0, 1], reduced to `size` where given.

    Raises:
        BrokenFile: unreadable, or of another aspect ratio than `size`.
    """
    image = read_image(path)
    if size is not None:
        require_aspect(path, image.shape[:2], size)
    scaled = image.astype(np.float32) / np.float32(255)
    return scaled if size is None else resize_area(scaled, size)


def read_mask(path: Path, size: Size | None = None) -> np.ndarray:
    """A mask as (H, W) bool, True = non-zero, resized to `size` (nearest).

    Raises:
        BrokenFile: unreadable, or of another aspect ratio than `size`.
    """
    mask = read_image(path).any(axis=-1)
    if size is None:
        return mask
    require_aspect(path, mask.shape, size)
    return resize_nearest(mask, size)
