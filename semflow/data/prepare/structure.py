"""Cameras from images by structure from motion (COLMAP), and frames without distortion for them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from semflow.data.images import Size, describe
from semflow.data.writing import write_image
from semflow.geometry.poses import llff_rows
from semflow.utils.errors import DataError

PROGRAM = Path(__file__).with_name("colmap_process.py")
NOT_INSTALLED = 'structure from motion needs pycolmap: pip install -e ".[prepare]"; or give the cameras by --poses'
BOUNDS = (0.5, 99.5)  # percentiles of the depths that a frame sees
FEWEST = 10  # points that a frame must see
STRAIGHT = 0.05  # pixels by which a lens may bend an image before it is resampled
NARROWINGS, BEYOND = 50, 1e-3  # steps towards a view that this lens has seen; share of it that may lie outside


@dataclass(frozen=True)
class Lens:
    """What a camera does with directions: K of a pinhole camera, and OpenCV's distortion.

    Attributes:
        matrix: (3, 3) in pixels whose centres lie at half-integers. distortion: (4,) k1, k2, p1, p2.
        size: (H, W) of its images.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    size: Size

    def scaled(self, size: Size) -> Lens:
        """The same for images of another size and the same aspect ratio."""
        ratio = np.diag([size[1] / self.size[1], size[0] / self.size[0], 1.0])
        return replace(self, matrix=ratio @ self.matrix, size=size)

    def bend(self) -> float:
        """Largest distance in pixels between the images of this lens and of the one of `straightened`."""
        columns, rows = self.maps(self.straight_focal())
        height, width = self.size
        return float(max(np.abs(columns - np.arange(width)).max(), np.abs(rows - np.arange(height)[:, None]).max()))

    def straight_focal(self) -> float:
        """Focal length of a pinhole camera, its axis in the middle, all of whose pixels this lens has seen."""
        focal = float(np.sqrt(self.matrix[0, 0] * self.matrix[1, 1]))
        for _ in range(NARROWINGS):
            spans = [(axis - 0.5 * (n - 1)) / (0.5 * (n - 1)) for axis, n in zip(self.maps(focal), self.size[::-1])]
            outside = max(float(np.abs(span).max()) for span in spans)
            if outside < 1 + BEYOND:
                break
            focal *= outside
        return focal

    def maps(self, focal: float) -> tuple[np.ndarray, np.ndarray]:
        """Column and row (H, W) in this lens's image (OpenCV's pixels) of every pixel of a straight one."""
        own, wanted = self.matrices(focal)
        return cv2.initUndistortRectifyMap(own, self.distortion, None, wanted, self.size[::-1], cv2.CV_32FC1)

    def matrices(self, focal: float) -> tuple[np.ndarray, np.ndarray]:
        """(3, 3) each: of this lens, and of a straight one, its axis in the middle; for OpenCV, whose pixel centres are integers."""
        height, width = self.size
        wanted = np.array([[focal, 0, 0.5 * (width - 1)], [0, focal, 0.5 * (height - 1)], [0, 0, 1]])
        return self.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]), wanted

    def straightened(self, images: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
        """Images (H, W, 3) uint8 of a pinhole camera with square pixels and its axis in the middle, and its focal length."""
        focal = self.straight_focal()
        if self.bend() < STRAIGHT:
            return images, focal
        maps = self.maps(focal)
        return [cv2.remap(image, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for image in images], focal

    def bent(self, mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) bool of a straight image as this lens would show it; False where the straight one ends."""
        height, width = self.size
        own, wanted = self.matrices(self.straight_focal())
        pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2).astype(np.float64)
        there = cv2.undistortPoints(pixels, own, self.distortion, P=wanted).reshape(height, width, 2).astype(np.float32)
        return cv2.remap(mask.astype(np.uint8), there, None, cv2.INTER_NEAREST, borderValue=0) > 0


@dataclass(frozen=True)
class Structure:
    """What structure from motion found.

    Attributes:
        names: T file names. w2c: (T, 3, 4) world to camera (x right, y down, z forward). lens: shared by all.
        points: (P, 3) world. seen: (M, 2) pairs of a frame and a point that it sees.
    """

    names: tuple[str, ...]
    w2c: np.ndarray
    lens: Lens
    points: np.ndarray
    seen: np.ndarray

    def c2w(self) -> np.ndarray:
        """(T, 3, 4) camera to world, x right, y up, z back."""
        turned = self.w2c[:, :, :3].transpose(0, 2, 1)
        centres = -turned @ self.w2c[:, :, 3:]
        return np.concatenate([turned * np.array([1.0, -1.0, -1.0]), centres], axis=-1)

    def of(self, names: Sequence[str]) -> Structure:
        """The part that belongs to some of the files, in the order of their names here; KeyError for one that is not in it."""
        place = {name: index for index, name in enumerate(self.names)}
        rows = [place[name] for name in names]
        now = {row: index for index, row in enumerate(rows)}
        seen = np.array([(now[frame], point) for frame, point in self.seen if frame in now], dtype=np.int64).reshape(-1, 2)
        return replace(self, names=tuple(names), w2c=self.w2c[rows], seen=seen)

    def bounds(self) -> np.ndarray:
        """(T, 2) near and far depth of what each frame sees; DataError where a frame sees next to nothing."""
        frames, points = self.seen.T
        depth = (self.w2c[frames, 2, :3] * self.points[points]).sum(-1) + self.w2c[frames, 2, 3]
        found = []
        for frame, name in enumerate(self.names):
            own = depth[(frames == frame) & (depth > 0)]
            if len(own) < FEWEST:
                raise DataError(f"{name}: its camera sees {len(own)} points of the model, fewer than {FEWEST}; leave the frame out")
            found.append(np.percentile(own, BOUNDS))
        return np.stack(found)

    def poses_bounds(self, focal: float, size: Size) -> np.ndarray:
        """(T, 17) LLFF rows for straight images of `size` and this focal length."""
        return llff_rows(self.c2w(), np.array([*size, focal]), self.bounds())


def reconstruct(images: Sequence[np.ndarray], sources: Sequence[str], subject: Path, focal: float | None = None,
                masks: Sequence[np.ndarray] | None = None, straight: bool = False) -> Structure:
    """Structure from motion of images (H, W, 3) uint8 that one camera took.

    Args:
        sources: what each of them is called. subject: where they come from, for errors.
        focal: of the camera, in pixels, if it is known; otherwise it is found too.
        masks: (H, W) bool for each image; where they are True, nothing is looked for.
        straight: the lens does not bend (else one coefficient of radial distortion is found).

    Raises:
        DataError: pycolmap is missing or finds nothing, or some images cannot be placed.
    """
    names = [f"{index:06d}.png" for index in range(len(images))]
    height, width = images[0].shape[:2]
    params = [focal, width / 2, height / 2, *([] if straight else [0.0])] if focal else []
    with tempfile.TemporaryDirectory(prefix="semflow_colmap_") as work:
        pictures, covers = Path(work) / "images", Path(work) / "masks"
        for index, (name, image) in enumerate(zip(names, images)):
            write_image(pictures / name, image)
            if masks is not None:
                write_image(covers / f"{name}.png", np.where(masks[index], 0, 255).astype(np.uint8))
        found = ask(Path(work), subject, "the frames must overlap, and the camera must move", images=str(pictures),
                    masks="" if masks is None else str(covers), camera_params=params, refine_focal=focal is None,
                    camera_model="SIMPLE_PINHOLE" if straight else "SIMPLE_RADIAL")
    missing = [source for name, source in zip(names, sources) if name not in found.names]
    if missing:
        raise DataError(f"{subject}: {len(missing)} of {len(names)} frames could not be placed ({', '.join(missing[:5])}"
                        f"{', …' if len(missing) > 5 else ''}); take more frames (--frames) or a part (--start, --end) in which "
                        "the camera moves, and what stands still fills most of the image")
    return replace(found, names=tuple(sources))


def read_model(folder: Path) -> Structure:
    """A sparse model of COLMAP (cameras, images, points3D as .bin or .txt).

    Raises:
        DataError: it cannot be read, its cameras differ or have a model that cannot be undistorted.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one with cameras.bin, images.bin and points3D.bin (or .txt)")
    with tempfile.TemporaryDirectory(prefix="semflow_colmap_") as work:
        return ask(Path(work), folder, "give the folder with cameras.bin, images.bin and points3D.bin (or .txt)", model=str(folder))


def ask(work: Path, subject: Path, remedy: str, **request) -> Structure:
    """The answer of `colmap_process.py`; raises DataError with the last line it said if there is none."""
    if find_spec("pycolmap") is None:
        raise DataError(NOT_INSTALLED)
    answer, said = work / "answer.npz", work / "request.json"
    said.write_text(json.dumps({"model": "", "work": str(work), "answer": str(answer), **request}))
    done = subprocess.run([sys.executable, str(PROGRAM), str(said)], capture_output=True, text=True)
    if done.returncode or not answer.is_file():
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise DataError(f"{subject}: COLMAP gives no cameras ({last}); {remedy}")
    with np.load(answer) as arrays:
        return checked(subject, {name: arrays[name] for name in arrays.files})


def checked(subject: Path, found: dict[str, np.ndarray]) -> Structure:
    """The arrays of an answer as a structure; raises DataError where the frames differ in their cameras."""
    sizes, intrinsics = found["sizes"], found["intrinsics"]
    if (sizes != sizes[0]).any() or not np.allclose(intrinsics, intrinsics[0], rtol=0.01, atol=1e-3):
        raise DataError(f"{subject}: its images have different cameras; reconstruct them with one (--ImageReader.single_camera 1)")
    fx, fy, cx, cy, *distortion = intrinsics[0]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    lens = Lens(matrix, np.array(distortion), (int(sizes[0][0]), int(sizes[0][1])))
    return Structure(tuple(str(name) for name in found["names"]), found["w2c"], lens, found["points"], found["seen"])


def require_size(path: Path, lens: Lens, size: Size) -> None:
    """Raise DataError where a lens belongs to images of another shape."""
    if abs(lens.size[0] * size[1] - lens.size[1] * size[0]) > max(lens.size) * 2:
        raise DataError(f"{path}: its images are {describe(lens.size)}, the frames {describe(size)}; give the images that "
                        "COLMAP saw")
