"""The trivial prediction that every figure is held against: the training frame of the same time, unmoved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from semflow.geometry.cameras import Cameras
from semflow.records import SceneData, View


def labelled_frames(labels: Tensor) -> tuple[int, ...]:
    """Frames of (T, H, W) training labels that have any label."""
    return tuple((labels >= 0).flatten(1).any(1).nonzero()[:, 0].tolist())


class CopyingRenderer:
    """A `ViewRenderer` that shows the nearest training frame, whatever the camera.

    Labels are those of the nearest labelled frame (of two equally near ones the earlier). Nothing moves.

    Args:
        scenes: name -> scene with its training labels.
    """

    def __init__(self, scenes: Mapping[str, SceneData]):
        self.scenes = scenes
        self.labelled = {name: labelled_frames(scene.labels) for name, scene in scenes.items()}

    def render(self, scene: str, cameras: Cameras, camera: int, time: float, what: frozenset[str]) -> View:
        """The frame of `time`; see `ViewRenderer`. Offers rgb, semantic and flow, always at the size of the frames."""
        data = self.scenes[scene]
        logits, flow = None, None
        if "semantic" in what and self.labelled[scene]:
            source = min(self.labelled[scene], key=lambda frame: (abs(frame - time), frame))
            # pixels without a label (-1) become class 0
            logits = functional.one_hot(data.labels[source].clamp(min=0), len(data.label_map)).float()
        if "flow" in what:
            flow = torch.zeros(data.height, data.width, 2, device=data.rgb.device)
        return View(rgb=data.rgb[min(round(time), data.frames - 1)], logits=logits, flow=flow)
