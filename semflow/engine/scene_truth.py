"""What a scene is judged by: truth of colour, labels and flow per (time, camera), and the pairs that are evaluated."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from semflow.engine.copying import labelled_frames
from semflow.engine.protocols import SeenInTraining
from semflow.records import SceneData

# (time, camera) -> (H, W, 2) pixels and (H, W) bool, True = valid; or None where there is no truth
FlowTruth = Callable[[int, int], "tuple[Tensor, Tensor] | None"]
SUBSET_SEED = 0


@dataclass(frozen=True)
class Pair:
    """An image to render: camera `camera` at time `time`; `scored` where there is truth for it."""

    time: int
    camera: int
    scored: bool


@dataclass(frozen=True)
class SceneTruth:
    """Truth of one scene.

    Attributes:
        scene: the scene with its training labels.
        frame_labels: (T, H, W) int64 true labels of the training cameras' own frames, -1 = none.
        flow: scene motion to the next time, seen by a camera at rest, or None.
    """

    scene: SceneData
    frame_labels: Tensor
    flow: FlowTruth | None = None

    def __post_init__(self):
        if self.frame_labels.shape != self.scene.labels.shape:
            raise ValueError(
                f"scene {self.scene.name}: truth labels are {tuple(self.frame_labels.shape)}, "
                f"expected {tuple(self.scene.labels.shape)}"
            )

    def rgb(self, time: int, camera: int) -> Tensor:
        """(H, W, 3) true colours of an image that has truth."""
        views = self.scene.truth
        return self.scene.rgb[time] if views is None else views.read_rgb(time, camera)

    def labels(self, time: int, camera: int) -> Tensor | None:
        """(H, W) true labels, or None where there are none."""
        views = self.scene.truth
        if views is not None and views.read_labels is not None:
            labels = views.read_labels(time, camera)
        elif camera == time:
            labels = self.frame_labels[time]
        else:
            return None
        return labels if (labels >= 0).any() else None

    def seen(self, colored: Collection[int] | None) -> SeenInTraining:
        """What training saw; `colored` are the frames whose colours were used, None = all."""
        views = self.scene.truth
        return SeenInTraining(
            frames=self.scene.frames,
            labelled=labelled_frames(self.scene.labels),
            colored=tuple(range(self.scene.frames)) if colored is None else tuple(colored),
            color_views=views is not None,
            label_views=views is not None and views.read_labels is not None,
        )

    def pairs(self, with_unscored: bool, every: int = 1) -> list[Pair]:
        """The images to render, camera by camera, so that a renderer can keep what does not depend on the time.

        Args:
            with_unscored: also the images that have no truth.
            every: N keeps one in N of the views of other cameras (c != t); which ones is drawn with a fixed seed, since a
                regular step through times and cameras would favour some of them. The own views (c == t) are few, and all
                that tells about times without labels in a scene without other views: they are always kept.
        """
        views, frames = self.scene.truth, self.scene.frames
        times, cameras = (frames, frames) if views is None else (views.times, views.cameras)
        own = [Pair(t, t, True) for t in range(min(times, cameras))]
        others = [Pair(t, c, views is not None) for c in range(cameras) for t in range(times) if c != t]
        if not with_unscored:
            others = [pair for pair in others if pair.scored]
        kept = random.Random(SUBSET_SEED).sample(others, math.ceil(len(others) / every))
        return sorted(own + kept, key=lambda pair: (pair.camera, pair.time))
