"""Reading NumPy files: inverse depth, optical flow and poses. Pickled data are never loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semflow.data.images import Size, require_aspect, require_file, resize_bilinear, resize_nearest
from semflow.data.problems import BrokenFile

AGAIN = "make the file again"
ROTATION_TOLERANCE = 1e-3
INTRINSICS_TOLERANCE = 0.01  # relative spread of the stated sizes and focal lengths


def _refuse(path: Path, error: Exception) -> BrokenFile:
    if "pickle" in str(error):
        return BrokenFile(
            path,
            "is pickled or no NumPy file (pickled data are never loaded)",
            "save a plain numeric array with np.save or np.savez",
        )
    return BrokenFile(path, "is not a readable NumPy file, or is cut short", AGAIN)


def read_array(path: Path, remedy: str = AGAIN) -> np.ndarray:
    """The array of a .npy file; raises BrokenFile: missing, empty, cut short, pickled, or not one array."""
    require_file(path, remedy)
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # broken bytes make NumPy, zipfile and the header's parser raise nearly anything
        raise _refuse(path, error) from error
    if not isinstance(array, np.ndarray):
        raise BrokenFile(path, "holds several arrays", "save one array with np.save")
    return array


def read_arrays(path: Path, keys: tuple[str, ...]) -> list[np.ndarray]:
    """The named arrays of a .npz file; raises BrokenFile as `read_array`, or where a key is missing."""
    require_file(path, AGAIN)
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            held = list(getattr(archive, "files", ()))
            missing = [key for key in keys if key not in held]
            arrays = [] if missing else [archive[key] for key in keys]
    except Exception as error:  # broken bytes make NumPy, zipfile and the header's parser raise nearly anything
        raise _refuse(path, error) from error
    if missing:
        raise BrokenFile(
            path,
            f"has no array {' and '.join(missing)} (it holds: {', '.join(held) or 'none'})",
            f"save the keys {' and '.join(keys)}",
        )
    return arrays


def require_finite(path: Path, array: np.ndarray, what: str) -> None:
    """Raise BrokenFile where `array` holds NaN or infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        where = ", ".join(str(i) for i in np.argwhere(bad)[0])
        raise BrokenFile(
            path,
            f"{what} holds NaN or infinity in {int(bad.sum())} place(s), first at [{where}]",
            "make it again without them",
        )


def _finite_float32(path: Path, array: np.ndarray, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large a number becomes infinite, which is refused
        narrow = array.astype(np.float32)
    require_finite(path, narrow, what)
    return narrow


def _require_numbers(path: Path, array: np.ndarray, what: str, kinds: str, shape: str, fits: bool) -> None:
    if array.dtype.kind not in kinds:
        raise BrokenFile(path, f"{what} has dtype {array.dtype}", "save real numbers (float32)")
    if not fits or 0 in array.shape:
        raise BrokenFile(path, f"{what} has shape {array.shape}", f"save an array of shape {shape}")


def read_disparity(path: Path, size: Size | None = None) -> np.ndarray:
    """Inverse depth (H, W) float32, resized to `size` (bilinear).

    Raises:
        BrokenFile: unreadable, wrong dtype or shape, not finite, or of another aspect ratio than `size`.
    """
    array = read_array(path)
    _require_numbers(path, array, "inverse depth", "fiu", "(h, w)", array.ndim == 2)
    array = _finite_float32(path, array, "inverse depth")
    if size is None:
        return array
    require_aspect(path, array.shape, size)
    return resize_bilinear(array, size)


def read_flow(path: Path, size: Size | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Optical flow (H, W, 2) float32 in pixels of `size` and its consistency (H, W) bool.

    The file's vectors are pixels of its own size: they are resized (bilinear) and rescaled, x by the ratio of
    widths, y by the ratio of heights; the mask is resized to the nearest pixel.

    Raises:
        BrokenFile: unreadable, a missing key, wrong dtype or shape, not finite, or of another aspect ratio.
    """
    flow, mask = read_arrays(path, ("flow", "mask"))
    _require_numbers(path, flow, "flow", "fiu", "(h, w, 2)", flow.ndim == 3 and flow.shape[-1] == 2)
    _require_numbers(path, mask, "mask", "biuf", f"{flow.shape[:2]} like the flow", mask.shape == flow.shape[:2])
    flow = _finite_float32(path, flow, "flow")
    if mask.dtype.kind == "f" and not np.isin(mask, (0, 1)).all():
        raise BrokenFile(path, "mask holds other values than 0 and 1", "save 1 where the flow is consistent, else 0")
    if size is None:
        return flow, mask != 0
    require_aspect(path, mask.shape, size)
    ratio = np.array([size[1] / mask.shape[1], size[0] / mask.shape[0]], dtype=np.float32)
    return resize_bilinear(flow, size) * ratio, resize_nearest(mask != 0, size)


def read_poses_bounds(path: Path, frames: int, size: Size | None = None) -> np.ndarray:
    """LLFF rows (T, 17) float64: 3x5 [R | t | (H, W, f)] with columns (down, right, back), then near, far.

    Args:
        path: poses_bounds.npy.
        frames: number of frames; one row each.
        size: size of the frames, whose aspect ratio the stated H and W must have.

    Raises:
        BrokenFile: unreadable, wrong dtype, shape or number of rows, not finite, no rotations, bad bounds,
            or a size or focal length that is not positive, not shared or does not fit the frames.
    """
    rows = read_array(path, "estimate the cameras (e.g. with COLMAP) and save an LLFF row of 17 numbers for each frame")
    _require_numbers(path, rows, "poses", "fiu", "(frames, 17)", rows.ndim == 2 and rows.shape[1] == 17)
    if len(rows) != frames:
        raise BrokenFile(
            path, f"has {len(rows)} rows for {frames} frames", "give one row per frame, in the order of the frames"
        )
    rows = rows.astype(np.float64)
    require_finite(path, rows, "poses")
    matrices = rows[:, :15].reshape(-1, 3, 5)
    _check_rotations(path, matrices[:, :, :3])
    _check_bounds(path, rows[:, 15:])
    _check_intrinsics(path, matrices[:, :, 4], size)
    return rows


def _check_rotations(path: Path, rotations: np.ndarray) -> None:
    rotations = rotations.clip(-2.0, 2.0)  # no entry of a rotation exceeds 1; keeps the products finite
    error = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bad = (error > ROTATION_TOLERANCE) | (np.linalg.det(rotations) < 0)
    if bad.any():
        raise BrokenFile(
            path,
            f"row {int(bad.argmax())} holds no rotation matrix",
            "save 3x5 [R | t | (H, W, f)] with the columns down, right, back",
        )


def _check_bounds(path: Path, bounds: np.ndarray) -> None:
    bad = (bounds[:, 0] <= 0) | (bounds[:, 1] <= bounds[:, 0])
    if bad.any():
        row = int(bad.argmax())
        near, far = bounds[row]
        raise BrokenFile(
            path, f"row {row} has the bounds near {near:g}, far {far:g}", "bounds must be depths with 0 < near < far"
        )


def _check_intrinsics(path: Path, stated: np.ndarray, size: Size | None) -> None:
    """`stated` (T, 3): height, width and focal length of each row."""
    if (stated <= 0).any():
        row = int((stated <= 0).any(axis=1).argmax())
        raise BrokenFile(
            path,
            f"row {row} has a height, width or focal length that is not positive",
            "the fifth column is (H, W, f) in pixels",
        )
    if (np.abs(stated / stated[0] - 1) > INTRINSICS_TOLERANCE).any():
        raise BrokenFile(
            path, "the rows differ in image size or focal length", "rectify the frames to one shared camera"
        )
    if size is not None:
        require_aspect(path, (round(stated[0, 0]), round(stated[0, 1])), size)
