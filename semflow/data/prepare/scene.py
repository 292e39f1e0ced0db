"""From frames to a scene folder in the Semantic Dynamic Scene layout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from semflow.data.images import Size, describe, resize_area, resize_nearest
from semflow.data.label_map import FOREGROUND, LABELMAP
from semflow.data.maps import read_poses_bounds
from semflow.data.prepare.disparity import inverse_depths
from semflow.data.prepare.flow import FlowMethod, dis_flow, flows_between, raft_flow
from semflow.data.prepare.frames import Frames, read_frames
from semflow.data.prepare.motion import fit_frames, motion_masks
from semflow.data.prepare.structure import Structure, read_model, reconstruct, require_size
from semflow.data.writing import replaced_folder, write_array, write_arrays, write_image
from semflow.geometry.cameras import Cameras
from semflow.geometry.poses import cameras_from_llff
from semflow.utils.errors import ConfigError, DataError
from semflow.utils.files import move_aside, write_json, write_text

MAP_WIDTH = 480  # of flow, masks and inverse depth: what scenes are usually trained at, or twice that
REACH = 2  # frames to each side whose flow tells what moves, and how far away what does not
ROUNDS = 3  # of structure from motion, each without what the one before has found to move
SETTLED = 0.95  # overlap of the masks of two rounds from which no other follows
MOVING_CLASSES = {"background": (0, 0, 0), "moving": (220, 60, 60)}


@dataclass(frozen=True)
class PrepareSettings:
    """What a scene is made from.

    Attributes:
        source: a video, or a folder of images. root, scene: where it goes: root/scene.
        frames, start, end, height: see `read_frames`.
        poses: an LLFF poses_bounds.npy of these frames. colmap: a sparse model of COLMAP of the images of the folder
            `source`. Without both the cameras are found.
        focal: focal length in pixels of the source's frames, if it is known. straight: the lens does not bend.
        raft_weights: weights of torchvision's large RAFT; None: DIS.
        label_moving: labels of two classes, background and moving, from the motion masks.
        overwrite: an old folder is moved aside.
        device: for RAFT.
    """

    source: Path
    root: Path
    scene: str
    frames: int | None = None
    start: float = 0.0
    end: float | None = None
    height: int | None = 540
    poses: Path | None = None
    colmap: Path | None = None
    focal: float | None = None
    straight: bool = False
    raft_weights: Path | None = None
    label_moving: bool = False
    overwrite: bool = False
    device: torch.device = torch.device("cpu")

    def __post_init__(self):
        if self.poses and self.colmap:
            raise ConfigError("--poses and --colmap both name cameras; give one of them")
        if self.scene in ("", ".", "..") or Path(self.scene).name != self.scene:
            raise ConfigError(f"--scene {self.scene!r}: give the name of a folder, without slashes")
        for name, value, lowest in (("frames", self.frames, 2), ("height", self.height, 16), ("focal", self.focal, 1)):
            if value is not None and value < lowest:
                raise ConfigError(f"--{name} {value}: must be at least {lowest}")


@dataclass(frozen=True)
class Filmed:
    """Frames of straight cameras.

    Attributes:
        images: T arrays (H, W, 3) uint8. poses_bounds: (T, 17) LLFF rows.
    """

    images: list[np.ndarray]
    poses_bounds: np.ndarray

    @property
    def map_size(self) -> Size:
        """(H, W) of the maps."""
        height, width = self.images[0].shape[:2]
        return (height, width) if width <= MAP_WIDTH else (round(height * MAP_WIDTH / width), MAP_WIDTH)

    def cameras(self) -> Cameras:
        """Cameras of the maps."""
        return cameras_from_llff(self.poses_bounds, *self.map_size)

    def small(self) -> list[np.ndarray]:
        """Frames (H, W, 3) uint8 at the size of the maps."""
        return [resize_area(image, self.map_size) for image in self.images]


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
    if settings.label_moving:
        check_classes(settings.root)
    method = raft_flow(settings.raft_weights, settings.device) if settings.raft_weights else dis_flow()
    frames = read_frames(settings.source, settings.frames, settings.start, settings.end,
                         None if settings.colmap else settings.height)
    say(f"frames: {len(frames.images)} of {frames.available} of {settings.source}, {describe(frames.images[0].shape[:2])}")
    filmed = film(settings, frames, say)
    settings.root.mkdir(parents=True, exist_ok=True)
    with replaced_folder(folder) as target:
        write_scene(target, filmed, method, settings.label_moving, say)
        write_json(target / "prepare.json", {"source": str(settings.source), "frames": list(frames.sources)})
        if folder.exists():
            say(f"the old {folder} is now {move_aside(folder)}")
    if settings.label_moving:
        write_classes(settings.root)
    return folder


def film(settings: PrepareSettings, frames: Frames, say: Callable[[str], None]) -> Filmed:
    """The frames as straight cameras take them, and these cameras: given, or found."""
    if settings.poses:
        size = frames.images[0].shape[:2]
        return Filmed(frames.images, read_poses_bounds(settings.poses, len(frames.images), size))
    if settings.colmap:
        model = read_model(settings.colmap)
        return reduced(straight(matched(settings, frames, model), model, say), settings.height)
    focal = None if settings.focal is None else settings.focal * frames.images[0].shape[1] / frames.full_width
    return found_cameras(frames.images, focal, settings.straight, say)


def matched(settings: PrepareSettings, frames: Frames, model: Structure) -> list[np.ndarray]:
    """The frames that a model names, which must be all."""
    named = dict(zip(frames.sources, frames.images))
    missing = sorted(set(named) - set(model.names))
    if missing or len(model.names) != len(named):
        stray = f"{missing[0]} is not in it" if missing else "it has others"
        raise DataError(f"{settings.colmap}: does not have just the images of {settings.source}: {stray}; give the folder "
                        "of the images that COLMAP placed")
    return [named[name] for name in model.names]


def straight(images: list[np.ndarray], model: Structure, say: Callable[[str], None]) -> Filmed:
    """Images as a camera takes them that does not bend, and its cameras."""
    size = images[0].shape[:2]
    require_size(Path("cameras"), model.lens, size)
    lens = model.lens.scaled(size)
    pictures, focal = lens.straightened(images)
    say(f"cameras: focal length {focal:.1f} pixels, images bent by up to {lens.bend():.1f} pixels, {len(model.points)} points")
    return Filmed(pictures, model.poses_bounds(focal, size))


def reduced(filmed: Filmed, height: int | None) -> Filmed:
    """The same with images no higher than `height`; the rows keep the size that they state."""
    rows, columns = filmed.images[0].shape[:2]
    if height is None or rows <= height:
        return filmed
    size = (height, 2 * round(columns * height / rows / 2))
    return replace(filmed, images=[resize_area(image, size) for image in filmed.images])


def found_cameras(images: list[np.ndarray], focal: float | None, is_straight: bool, say: Callable[[str], None]) -> Filmed:
    """Structure from motion, in rounds: what moves is found with the cameras of one and left out in the next."""
    with tempfile.TemporaryDirectory(prefix="semflow_prepare_") as work:
        pictures, masks = Path(work) / "images", Path(work) / "masks"
        for index, image in enumerate(images):
            write_image(pictures / f"{index:03d}.png", image)
        before = None
        say(f"cameras: structure from motion of {len(images)} frames, in up to {ROUNDS} rounds; what moves is left out more and more")
        for number in range(ROUNDS):
            model = reconstruct(pictures, focal, masks if number else None, is_straight)
            filmed = straight(images, model, say)
            if number == ROUNDS - 1:
                break
            moving = moving_in(filmed)
            if before is not None and overlap(before, moving) > SETTLED:
                break
            before = moving
            for index, mask in enumerate(moving):
                seen = model.lens.bent(resize_nearest(mask, images[0].shape[:2]))
                write_image(masks / f"{index:03d}.png.png", np.where(seen, 0, 255).astype(np.uint8))
    return filmed


def moving_in(filmed: Filmed) -> np.ndarray:
    """(T, H, W) bool: what moves, by a quick flow."""
    cameras = filmed.cameras()
    flows = flows_between(filmed.small(), REACH, dis_flow())
    return motion_masks(fit_frames(flows, cameras), flows, cameras)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    return float((first & second).sum() / max(1, (first | second).sum())) if (first | second).any() else 1.0


def write_scene(folder: Path, filmed: Filmed, method: FlowMethod, label_moving: bool, say: Callable[[str], None]) -> None:
    """Write frames, cameras and maps into an existing folder."""
    cameras, small = filmed.cameras(), filmed.small()
    flows = flows_between(small, REACH, method)
    fits = fit_frames(flows, cameras)
    motion = motion_masks(fits, flows, cameras)
    valid = np.mean([flow.valid.float().mean() for (i, j), flow in flows.items() if abs(i - j) == 1])
    say(f"flow: {100 * valid:.0f}% of the pixels agree both ways; moving: {100 * motion.mean():.1f}% of the pixels")
    write_array(folder / "poses_bounds.npy", filmed.poses_bounds)
    depths = inverse_depths(fits, cameras, motion, small)
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


def class_texts() -> dict[str, str]:
    """Name -> text of the two files of classes."""
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in MOVING_CLASSES.items()]
    return {LABELMAP: "\n".join(["# label:color_rgb:parts:actions", *lines, ""]), FOREGROUND: "moving\n"}


def check_classes(root: Path) -> None:
    """Raise DataError where a root has other classes than background and moving."""
    for name, text in class_texts().items():
        if (root / name).exists() and (root / name).read_text(encoding="utf-8", errors="replace") != text:
            raise DataError(f"{root / name}: holds other classes than background and moving; choose another root, or label by hand")


def write_classes(root: Path) -> None:
    """Write the two classes, background and moving, of a root."""
    for name, text in class_texts().items():
        write_text(root / name, text)
