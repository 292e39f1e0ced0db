"""Reading a whole scene: `load_scene` stops at the first broken file, `read_parts` serves the check too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semflow.config.schema import DataConfig
from semflow.data import layout
from semflow.data.frame_lists import parse_frames
from semflow.data.images import Size, describe, read_image, read_mask, read_rgb, resize_area
from semflow.data.label_map import read_label_map, read_labels
from semflow.data.layout import FolderKind, FrameFiles, ScenePaths
from semflow.data.maps import read_disparity, read_flow, read_poses_bounds
from semflow.data.problems import Attempt, BrokenFile, strictly
from semflow.data.truth import TruthFiles, find_truth, truth_record
from semflow.geometry.poses import cameras_from_llff
from semflow.geometry.spaces import make_space
from semflow.records import LabelMap, SceneData
from semflow.utils.errors import ConfigError


@dataclass(frozen=True)
class SceneParts:
    """What was read of a scene; None stands where a Collector kept a problem.

    Attributes:
        paths: its folders.
        frames: its frame files.
        size: (H, W), None where no frame could be read.
        rgb: T arrays (H, W, 3) float32.
        poses_bounds: (T, 17).
        disparity: T arrays (H, W) float32.
        motion: T arrays (H, W) bool.
        flow_forward: T - 1 pairs of (H, W, 2) float32 and (H, W) bool, of the frames 0..T-2.
        flow_backward: the same of the frames 1..T-1.
        label_map: the classes.
        labels: frame -> (H, W) int64, the labelled frames only.
        truth: truth files.
    """

    paths: ScenePaths
    frames: FrameFiles
    size: Size | None
    rgb: list
    poses_bounds: np.ndarray | None
    disparity: list
    motion: list
    flow_forward: list
    flow_backward: list
    label_map: LabelMap | None
    labels: dict[int, Any]
    truth: TruthFiles | None


def load_scene(config: DataConfig, name: str, device: torch.device | str = "cpu") -> SceneData:
    """Read a scene: frames at `config.factor`, every other map at their size.

    Only frames in `config.labelled_frames` have their label file opened; "all" takes every frame that has one.
    The images of images_K are used where that folder exists, else images are reduced in memory.

    Args:
        config: where the scene lies and how it is read.
        name: its folder.
        device: where the tensors go (the readers of the truth return CPU tensors).

    Raises:
        DataError: a file is missing or broken; the message names it and what to do.
        ConfigError: a frame list, factor or static class that does not fit the scene.
    """
    parts = read_parts(config, name, strictly)
    count, size = len(parts.frames.stems), parts.size
    cameras = cameras_from_llff(parts.poses_bounds, *size)
    if not torch.isfinite(cameras.c2w).all():
        path = parts.paths.scene / "poses_bounds.npy"
        raise BrokenFile(
            path,
            "the cameras look in opposite directions, so that they have no average",
            "use a forward-facing part of the video",
        )
    forward, forward_valid = _stack_flow(parts.flow_forward, last_is_empty=True)
    backward, backward_valid = _stack_flow(parts.flow_backward, last_is_empty=False)
    labels = torch.full((count, *size), -1, dtype=torch.int64)
    for frame, ids in parts.labels.items():
        labels[frame] = torch.from_numpy(ids)
    scene = SceneData(
        name=name,
        rgb=_stack(parts.rgb),
        cameras=cameras,
        space=make_space(config.space, cameras, config.clip_to_bounds),
        disparity=_stack(parts.disparity),
        motion=_stack(parts.motion),
        flow_forward=forward,
        flow_forward_valid=forward_valid,
        flow_backward=backward,
        flow_backward_valid=backward_valid,
        labels=labels,
        label_map=parts.label_map,
        truth=None if parts.truth is None else truth_record(parts.truth, parts.label_map, count, size),
    )
    return scene.to(device)


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _stack_flow(pairs: list[tuple[np.ndarray, np.ndarray]], last_is_empty: bool) -> tuple[Tensor, Tensor]:
    """(T, H, W, 2) and (T, H, W), with zeros for the last (or first) frame, which has no such neighbour."""
    empty = (np.zeros_like(pairs[0][0]), np.zeros_like(pairs[0][1]))
    pairs = [*pairs, empty] if last_is_empty else [empty, *pairs]
    return _stack([flow for flow, _ in pairs]), _stack([mask for _, mask in pairs])


def read_parts(config: DataConfig, name: str, attempt: Attempt = strictly) -> SceneParts | None:
    """Read every file that `load_scene` needs; None where not even the frames can be listed.

    Raises:
        BrokenFile: with `strictly`, the first problem.
        ConfigError: a frame list, factor or static class that does not fit the scene.
    """
    paths = attempt(layout.scene_paths, config, name)
    if paths is None:
        return None
    has_labels = paths.labelled(layout.LABELS) is not None or paths.labelled(layout.TRUTH_LABELS) is not None
    label_map = read_label_map(paths, config.static_classes, has_labels, attempt)
    frames = attempt(layout.find_frames, paths, config.factor)
    if frames is None:
        return None
    rgb, size = read_frames(frames, attempt)
    stems = frames.stems

    def read_kind(kind: FolderKind, names: list[str], read: Callable) -> list:
        return read_folder(paths.scene / kind.name, kind, names, lambda path: read(path, size), attempt)

    flow = read_kind(
        layout.FLOW, [f"{stem}_fwd" for stem in stems[:-1]] + [f"{stem}_bwd" for stem in stems[1:]], read_flow
    )
    return SceneParts(
        paths=paths,
        frames=frames,
        size=size,
        rgb=rgb,
        label_map=label_map,
        poses_bounds=attempt(read_poses_bounds, paths.scene / "poses_bounds.npy", len(stems), size),
        disparity=read_kind(layout.DISPARITY, list(stems), read_disparity),
        motion=read_kind(layout.MASKS, list(stems), read_mask),
        flow_forward=flow[: len(stems) - 1],
        flow_backward=flow[len(stems) - 1 :],
        labels=read_label_frames(paths, config.labelled_frames, stems, label_map, size, attempt),
        truth=find_truth(paths, len(stems), attempt),
    )


def read_folder(
    folder: Path, kind: FolderKind, stems: list[str], read: Callable[[Path], Any], attempt: Attempt
) -> list:
    """Results of `read` for the file of each stem; one problem for a missing folder, else one per file."""
    files = attempt(layout.list_folder, folder, kind)
    if files is None:
        return [None] * len(stems)
    return [attempt(lambda stem: read(layout.file_of(files, folder, kind, stem)), stem) for stem in stems]


def read_frames(frames: FrameFiles, attempt: Attempt) -> tuple[list, Size | None]:
    """Frames (H, W, 3) float32 in [0, 1] at their final size, and that size (None where none can be read)."""
    stored: list[Size] = []  # size of the first readable frame
    kind = FolderKind(
        frames.folder.name,
        layout.IMAGE_SUFFIXES,
        "add the missing frame"
        + (f", or remove {frames.folder.name}, which is then made in memory" if frames.folder.name != "images" else ""),
    )

    def read(stem: str) -> np.ndarray:
        path = layout.file_of(frames.files, frames.folder, kind, stem)
        image = read_rgb(path)
        if not stored:
            stored.append(image.shape[:2])
        if image.shape[:2] != stored[0]:
            raise BrokenFile(
                path,
                f"is {describe(image.shape[:2])}, other frames are {describe(stored[0])}",
                "give all frames one size",
            )
        return image if frames.reduce == 1 else resize_area(image, reduced_size(stored[0], frames.reduce))

    images = [attempt(read, stem) for stem in frames.stems]
    return images, reduced_size(stored[0], frames.reduce) if stored else None


def reduced_size(full: Size, factor: int) -> Size:
    """(H, W) of an image of size `full` reduced by `factor`; raises ConfigError where nothing would be left."""
    size = (round(full[0] / factor), round(full[1] / factor))
    if min(size) < 2:
        raise ConfigError(
            f"factor = {factor}: images of {describe(full)} become smaller than 2 pixels; use a smaller factor"
        )
    return size


def read_label_frames(
    paths: ScenePaths,
    labelled: str,
    stems: tuple[str, ...],
    label_map: LabelMap | None,
    size: Size | None,
    attempt: Attempt,
) -> dict[int, np.ndarray]:
    """Labels of the frames listed in `labelled`; the files of other frames are not opened.

    "all" means every frame that has a label file; frames named one by one must have one.
    """
    wanted = parse_frames(labelled, len(stems), "labelled_frames")
    everything = labelled.strip() == "all"
    folder = paths.labelled(layout.LABELS)
    if not wanted or (folder is None and everything):
        return {}
    folder = folder or paths.label_roots[0] / paths.name / layout.LABELS.name
    files = attempt(layout.list_folder, folder, layout.LABELS)
    if files is None:
        return {}
    if everything:
        attempt(_require_matches, folder, files, stems)
        wanted = tuple(frame for frame in wanted if stems[frame] in files)

    def read(frame: int) -> np.ndarray | None:
        path = layout.file_of(files, folder, layout.LABELS, stems[frame])
        return read_image(path) if label_map is None else read_labels(path, label_map, size)

    return {frame: attempt(read, frame) for frame in wanted}


def _require_matches(folder: Path, files: dict[str, Path], stems: tuple[str, ...]) -> None:
    """Some frames may lack labels, but then no label file may be left without a frame: it is misnamed."""
    strays = [path for stem, path in files.items() if stem not in stems]
    if not files:
        raise BrokenFile(folder, "holds no png file", "add labels, or remove the folder where there are none")
    if strays and not all(stem in files for stem in stems):
        raise BrokenFile(
            strays[0], "has the name of no frame, while frames lack labels", "give it the name of its frame"
        )
