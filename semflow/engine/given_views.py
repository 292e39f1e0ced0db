"""Pictures that another program has made in the place of a renderer: whatever it is, it is judged like a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from semflow.engine.copying import CopyingRenderer
from semflow.engine.evaluation_files import VIEW_NAME, view_name
from semflow.geometry.cameras import Cameras
from semflow.records import SceneData, View
from semflow.utils.errors import DataError

KINDS = {"rgb": "8-bit RGB", "labels": "8-bit class ids, not colours"}


class GivenViews:
    """A `ViewRenderer` that reads `<folder>/<scene>/t000_c000_rgb.png` and `…_labels.png`, as `semflow evaluate --save` writes
    them: times and cameras count from 0, labels are class ids in the order of labelmap.txt.

    A scene may have pictures of one kind alone: without labels none are judged, without colours the frame of the time stands
    in for them, as it does for labels that are carried in 2-D. Nothing moves.

    Args:
        folder: of the pictures.
        scenes: name -> scene with its training labels.

    Raises:
        DataError: a scene has no pictures.
    """

    def __init__(self, folder: Path, scenes: Mapping[str, SceneData]):
        self.folder, self.scenes, self.frames = folder, scenes, CopyingRenderer(scenes)
        self.kinds = {name: self.kinds_of(name) for name in scenes}

    def kinds_of(self, scene: str) -> set[str]:
        """Which kinds of pictures there are of a scene."""
        place = self.folder / scene
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        found = {match[1] for match in map(VIEW_NAME.fullmatch, names) if match}
        if not found:
            raise DataError(f"{place}: no pictures; they are named t000_c000_rgb.png ({KINDS['rgb']}) and t000_c000_labels.png "
                            f"({KINDS['labels']}), of time and camera from 0")
        return found

    def render(self, scene: str, cameras: Cameras, camera: int, time: float, what: frozenset[str]) -> View:
        """See `ViewRenderer`. Offers rgb and semantic; DataError for a picture that is missing, broken or of another size."""
        data = self.scenes[scene]
        rgb = self.frames.render(scene, cameras, camera, time, frozenset()).rgb
        if "rgb" in self.kinds[scene]:
            rgb = torch.from_numpy(self.read(data, camera, time, "rgb")).to(rgb.device).float() / 255
        logits = None
        if "labels" in self.kinds[scene] and "semantic" in what:
            labels = torch.from_numpy(self.read(data, camera, time, "labels")).long().to(rgb.device)
            logits = self.checked(labels, data, camera, time)
        return View(rgb=rgb, logits=logits)

    def read(self, data: SceneData, camera: int, time: float, kind: str) -> np.ndarray:
        """(H, W, 3) or, of labels, (H, W) uint8 picture."""
        path = self.folder / data.name / view_name(round(time), camera, kind)
        if not path.is_file():
            raise DataError(f"{path}: no such picture, although there are others of its kind; add it, or judge fewer by --every")
        try:
            image = np.array(iio.imread(path, plugin="pillow"))
        except Exception as error:  # broken bytes make the decoders raise nearly anything
            raise DataError(f"{path}: is not a readable image, or is cut short; make it again") from error
        shape = (data.height, data.width) + ((3,) if kind == "rgb" else ())
        if image.dtype != np.uint8 or image.shape != shape:
            raise DataError(f"{path}: must be {data.width}x{data.height}, {KINDS[kind]}")
        return image

    def checked(self, labels: Tensor, data: SceneData, camera: int, time: float) -> Tensor:
        """(H, W, K) logits of class ids (H, W)."""
        classes = len(data.label_map)
        if int(labels.max()) >= classes:
            path = self.folder / data.name / view_name(round(time), camera, "labels")
            raise DataError(f"{path}: class id {int(labels.max())}, but labelmap.txt names {classes} classes, from 0")
        return functional.one_hot(labels, classes).float()
