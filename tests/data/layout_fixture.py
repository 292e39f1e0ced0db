"""A tiny valid scene of the layout with known values, to be read or broken by the tests.

Three frames of 16x12; images_2, disp, motion_masks and flow at 8x6; labels at 16x12.
"""

import imageio.v3 as iio
import numpy as np

from semflow.data.check import check_scenes

T, H, W = 3, 12, 16
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nwall:10,20,30::\nball:200,0,0::\nperson:0,0,200::\n"
COLORS = np.array([[0, 0, 0], [10, 20, 30], [200, 0, 0], [0, 0, 200]], dtype=np.uint8)
FLOW = (1.5, -0.5)  # pixels at 8x6


def frame_image(frame: int) -> np.ndarray:
    """(12, 16, 3) uint8: blocks of 2x2 pixels whose mean is (40 frame + 4 column + 1, 8 row, 200) of the block."""
    y, x = np.meshgrid(np.arange(H) // 2, np.arange(W) // 2, indexing="ij")
    image = np.stack([40 * frame + 4 * x, 8 * y, np.full_like(x, 200)], axis=-1)
    image[::2, ::2, 0] += 4
    return image.astype(np.uint8)


def half_image(frame: int) -> np.ndarray:
    """(6, 8, 3) uint8: the exact 2x2 means of `frame_image`."""
    return frame_image(frame).reshape(6, 2, 8, 2, 3).mean(axis=(1, 3)).astype(np.uint8)


def label_ids(frame: int) -> np.ndarray:
    """(12, 16) ids: wall, and a ball of 4x4 pixels that moves to the right by 4."""
    ids = np.ones((H, W), dtype=np.int64)
    ids[4:8, 4 * frame : 4 * frame + 4] = 2
    return ids


def disparity(frame: int) -> np.ndarray:
    """(6, 8) float32 ramp 10 frame + column."""
    return np.broadcast_to(10.0 * frame + np.arange(8), (6, 8)).astype(np.float32)


def poses_bounds() -> np.ndarray:
    """(3, 17): cameras that look along -z, 0.5 apart along x; focal 20 at 16x12; bounds 2..10."""
    rows = []
    for frame in range(T):
        down, right, back, centre = (0, -1, 0), (1, 0, 0), (0, 0, 1), (0.5 * frame, 0, 0)
        rows.append([*np.stack([down, right, back, centre, (H, W, 20)], axis=-1).ravel(), 2.0, 10.0])
    return np.array(rows, dtype=np.float64)


def write_image(path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, image)


def write_labels(folder) -> None:
    for frame in range(T):
        write_image(folder / f"{frame:03d}.png", COLORS[label_ids(frame)])


def write_classes(root) -> None:
    (root / "labelmap.txt").write_text(LABELMAP)
    (root / "foreground_object.txt").write_text("ball\nperson\n")


def write_flow(path, shape=(6, 8), vector=FLOW, dtype=np.float32, **changed) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flow = np.broadcast_to(np.array(vector), (*shape, 2)).astype(dtype)
    mask = np.ones(shape, dtype=np.uint8)
    mask[0, 0] = 0
    np.savez(path, **{"flow": flow, "mask": mask, **changed})


def write_scene(root, name="Tiny", labels=True, reduced=True):
    """Write the scene below `root` (created) and return its folder."""
    scene = root / name
    for frame in range(T):
        write_image(scene / "images" / f"{frame:03d}.png", frame_image(frame))
        if reduced:
            write_image(scene / "images_2" / f"{frame:03d}.png", half_image(frame))
        mask = np.zeros((6, 8), dtype=np.uint8)
        mask[2:4, 2 * frame : 2 * frame + 2] = 255
        write_image(scene / "motion_masks" / f"{frame:03d}.png", mask)
        (scene / "disp").mkdir(exist_ok=True)
        np.save(scene / "disp" / f"{frame:03d}.npy", disparity(frame))
    for frame in range(T - 1):
        write_flow(scene / "flow" / f"{frame:03d}_fwd.npz")
        write_flow(scene / "flow" / f"{frame + 1:03d}_bwd.npz", vector=(-FLOW[0], -FLOW[1]))
    np.save(scene / "poses_bounds.npy", poses_bounds())
    if labels:
        write_classes(root)
        write_labels(scene / "SegmentationClass_train")
    return scene


def truth_color(time: int, camera: int) -> tuple[int, int, int]:
    return (50 * time, 60 * camera, 7)


def write_truth(rgb_root, label_root=None, name="Tiny") -> None:
    """Truth of 3 times x 3 cameras at 16x12: one colour per view; class (time + camera) % 3."""
    for time in range(T):
        for camera in range(T):
            view = f"{time + 1:08d}/cam{camera + 1:02d}.png"
            color = np.broadcast_to(np.array(truth_color(time, camera), dtype=np.uint8), (H, W, 3))
            write_image(rgb_root / name / "multiview_GT" / view, color)
            if label_root is not None:
                ids = np.full((H, W), (time + camera) % 3)
                write_image(label_root / name / "multiview_GT_semantic" / view, COLORS[ids])


def problems_of(config_or_root, scenes=None) -> list:
    """All that the check finds, each problem once, as `semflow check` prints it."""
    problems, reports = check_scenes(config_or_root, scenes)
    return list(dict.fromkeys([*problems, *(problem for report in reports for problem in report.problems)]))
