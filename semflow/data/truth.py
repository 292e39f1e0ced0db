"""Multi-view truth: images of every camera at every time, found at loading, read when asked for.

Names are 1-based on disk (multiview_GT/00000001/cam01.jpg is time 0, camera 0). Camera c is training camera c,
so as many times and cameras are taken as there are frames; further ones have no pose and are left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from semflow.data.images import Size, read_rgb
from semflow.data.label_map import read_labels
from semflow.data.layout import TRUTH_LABELS, TRUTH_RGB, FolderKind, ScenePaths
from semflow.data.problems import Attempt, BrokenFile, strictly
from semflow.records import LabelMap, MultiViewTruth

CAMERA = re.compile(r"cam0*([0-9]+)")
Views = dict[tuple[int, int], Path]  # (time, camera), 0-based -> file


@dataclass(frozen=True)
class TruthFiles:
    """Files of the truth: colour, and labels where the scene has them."""

    rgb: Views
    labels: Views | None


def find_truth(paths: ScenePaths, frames: int, attempt: Attempt = strictly) -> TruthFiles | None:
    """Truth files of a scene with `frames` frames, or None where it has no truth.

    Raises:
        BrokenFile: a time or a camera is missing, or there is label truth but no colour truth.
    """
    rgb, labels = paths.scene / TRUTH_RGB.name, paths.labelled(TRUTH_LABELS)
    if labels is None and not rgb.is_dir():
        return None
    found = attempt(_find_views, rgb, TRUTH_RGB, frames, attempt)
    found_labels = None if labels is None else _find_views(labels, TRUTH_LABELS, frames, attempt)
    return None if found is None else TruthFiles(found, found_labels)


def _find_views(folder: Path, kind: FolderKind, frames: int, attempt: Attempt) -> Views:
    if not folder.is_dir():
        raise BrokenFile(folder, f"no such folder, although there is {TRUTH_LABELS.name}", kind.remedy)
    times = {int(entry.name): entry for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal()}
    views: Views = {}
    for time in range(frames):
        views.update(attempt(_find_time, folder, times, kind, time, frames, attempt) or {})
    return views


def _find_time(
    folder: Path, times: dict[int, Path], kind: FolderKind, time: int, cameras: int, attempt: Attempt
) -> Views:
    if time + 1 not in times:
        raise BrokenFile(folder / f"{time + 1:08d}", "no such folder", kind.remedy)
    files = {}
    for path in sorted(times[time + 1].iterdir()):
        match = CAMERA.fullmatch(path.stem)
        if match and path.suffix.lower() in kind.suffixes:
            files[int(match[1]) - 1] = path
    found = {camera: attempt(_camera_file, files, times[time + 1], kind, camera) for camera in range(cameras)}
    return {(time, camera): path for camera, path in found.items() if path is not None}


def _camera_file(files: dict[int, Path], folder: Path, kind: FolderKind, camera: int) -> Path:
    if camera not in files:
        raise BrokenFile(folder / f"cam{camera + 1:02d}{kind.suffixes[0]}", "no such file", kind.remedy)
    return files[camera]


def truth_record(files: TruthFiles, label_map: LabelMap, frames: int, size: Size) -> MultiViewTruth:
    """Truth whose readers return tensors on the CPU at the size of the frames.

    Colour is averaged over the area of a pixel, labels take the nearest pixel (see `images.resize_nearest`).
    The readers raise BrokenFile for a broken image and KeyError for a view that does not exist.
    """

    def rgb(time: int, camera: int) -> Tensor:
        return torch.from_numpy(read_rgb(files.rgb[time, camera], size))

    def labels(time: int, camera: int) -> Tensor:
        return torch.from_numpy(read_labels(files.labels[time, camera], label_map, size))

    return MultiViewTruth(frames, frames, rgb, None if files.labels is None else labels)
