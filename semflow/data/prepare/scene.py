"""From frames to a scene folder in the Semantic Dynamic Scene layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from semflow.data.images import describe
from semflow.data.label_map import check_class_files, class_files
from semflow.data.prepare.disparity import inverse_depths
from semflow.data.prepare.filming import Look, film
from semflow.data.prepare.flow import raft_flow
from semflow.data.prepare.frames import Frames, read_frames
from semflow.data.prepare.settings import PrepareSettings
from semflow.data.writing import replaced_folder, write_array, write_arrays, write_image
from semflow.utils.errors import DataError
from semflow.utils.files import move_aside, write_json, write_text

POOR = 1.0 / 480  # error of half of the flow, in image widths, from which cameras are doubted
MOVING_CLASSES = {"background": (0, 0, 0), "moving": (220, 60, 60)}


def prepare_scene(settings: PrepareSettings, say: Callable[[str], None] = print) -> Path:
    """Write the scene; nothing half-made is left behind.

    Args:
        say: gets a line about each thing that was found.

    Returns:
        Its folder.

    Raises:
        DataError: of what is wrong with the source, the cameras or the target.
    """
    folder = settings.root / settings.scene
    if folder.exists() and not settings.overwrite:
        raise DataError(f"{folder}: already exists; choose another name, or say --overwrite to move it aside")
    classes = class_files(settings.root, MOVING_CLASSES, ["moving"]) if settings.label_moving else {}
    check_class_files(classes, "background and moving")
    raft = raft_flow(settings.raft_weights, settings.device) if settings.raft_weights else None
    frames = read_frames(settings.source, settings.frames, settings.start, settings.end,
                         None if settings.colmap else settings.height)
    say(f"frames: {len(frames.images)} of {frames.available} of {settings.source}, {describe(frames.images[0].shape[:2])}")
    look = film(settings, frames, raft, say)
    if look.error > POOR * look.filmed.map_size[1]:
        say(f"warning: these cameras explain half of the flow to {look.error:.1f} pixels only; masks and depth will be poor, and "
            "so will be what is trained on them")
    settings.root.mkdir(parents=True, exist_ok=True)
    with replaced_folder(folder) as target:
        write_scene(target, look, settings.label_moving, say)
        write_json(target / "prepare.json", record(settings, frames, look))
        if folder.exists():
            say(f"the old {folder} is now {move_aside(folder)}")
    for path, text in classes.items():
        write_text(path, text)
    return folder


def record(settings: PrepareSettings, frames: Frames, look: Look) -> dict[str, Any]:
    """What a scene was made from, and how well its cameras explain the flow."""
    plain = (int, float, type(None))
    given = {name: value if isinstance(value, plain) else str(value) for name, value in vars(settings).items()}
    return {"settings": given, "frames": list(frames.sources), "explained_to_pixels": look.error,
            "moving_share": float(look.motion.mean())}


def write_scene(folder: Path, look: Look, label_moving: bool, say: Callable[[str], None]) -> None:
    """Write frames, cameras and maps into an existing folder."""
    filmed, flows, motion = look.filmed, look.flows, look.motion
    valid = np.mean([flow.valid.float().mean() for (i, j), flow in flows.items() if abs(i - j) == 1])
    say(f"flow: {100 * valid:.0f}% of the pixels agree both ways; moving: {100 * motion.mean():.1f}% of the pixels")
    write_array(folder / "poses_bounds.npy", filmed.poses_bounds)
    depths = inverse_depths(look.fits, flows, filmed.cameras(), motion, look.small)
    for frame, (image, mask, depth) in enumerate(zip(filmed.images, motion, depths)):
        write_image(folder / "images" / f"{frame:03d}.png", image)
        write_image(folder / "motion_masks" / f"{frame:03d}.png", mask.astype(np.uint8) * 255)
        write_array(folder / "disp" / f"{frame:03d}.npy", depth)
        for way, there in (("fwd", frame + 1), ("bwd", frame - 1)):
            if (frame, there) in flows:
                flow = flows[frame, there]
                write_arrays(folder / "flow" / f"{frame:03d}_{way}.npz", flow=flow.vectors.numpy(), mask=flow.valid.numpy())
        if label_moving:
            colours = np.array(list(MOVING_CLASSES.values()), dtype=np.uint8)
            write_image(folder / "SegmentationClass_train" / f"{frame:03d}.png", colours[mask.astype(int)])
