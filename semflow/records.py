"""The vocabulary of semflow: the records that travel between its parts.

Shape letters used everywhere:
    T  frames of a scene (frame i is taken by camera i at time i, 0-based)
    H W  image height and width      R  rays          S  samples per ray
    K  classes                       C  feature channels
    F  positions of a flow track     Z  clip code

Conventions: `rgb` lies in [0, 1]; `uv` are pixels (x right, y down, the upper-left pixel's centre is
(0.5, 0.5)); `labels` are int64 class ids, -1 = no label; `u` in [0, 1] is the parameter of a ray in
field space, `point = origin + u * direction`; `points` are in field space (NDC or the normalised box),
`points_world` in world space; a `frame` is an integer, a `time` is a float index in [0, T-1] unless it
is called `normalised_time`, which lies in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Callable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from semflow.geometry.cameras import Cameras
    from semflow.geometry.spaces import Space


def to_device(record, device: torch.device | str):
    """Copy of a dataclass with every tensor (and nested record with a `.to`) on `device`."""
    moved = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if hasattr(value, "to"):
            moved[field.name] = value.to(device)
    return replace(record, **moved)


@dataclass(frozen=True)
class LabelMap:
    """Classes of a data root; the id of a class is its line in labelmap.txt, id 0 first.

    Attributes:
        names: K class names.
        colors: (K, 3) uint8 label colours.
        foreground: ids of the classes that may move, from foreground_object.txt (less those that a
            setting declares static in this scene).
        listed_foreground: ids of all classes in foreground_object.txt, static here or not; the metrics'
            foreground. Equal to `foreground` where not given.
    """

    names: tuple[str, ...]
    colors: Tensor
    foreground: tuple[int, ...]
    listed_foreground: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.listed_foreground is None:
            object.__setattr__(self, "listed_foreground", self.foreground)

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device) -> LabelMap:
        """Copy with the colours on `device`."""
        return to_device(self, device)


@dataclass(frozen=True)
class MultiViewTruth:
    """Lazily read truth images of every camera at every time, 0-based, at the size of the frames.

    Attributes:
        cameras: number of cameras; camera c is training camera c.
        times: number of times.
        read_rgb: (time, camera) -> (H, W, 3) float tensor in [0, 1].
        read_labels: (time, camera) -> (H, W) int64 ids, or None where the scene has no label truth.
    """

    cameras: int
    times: int
    read_rgb: Callable[[int, int], Tensor]
    read_labels: Callable[[int, int], Tensor] | None


@dataclass(frozen=True)
class SceneData:
    """One scene, ready for training: every map at the size of the frames, on one device.

    Attributes:
        name: folder name.
        rgb: (T, H, W, 3) float32 in [0, 1].
        cameras: T cameras in the scaled, re-centred world.
        space: conversion between world and field space.
        disparity: (T, H, W) float32 inverse depth, unknown scale and shift per frame.
        motion: (T, H, W) bool, True = moving. Never derived from labels.
        flow_forward: (T, H, W, 2) float32 pixels from frame i to i+1; zeros in the last frame.
        flow_forward_valid: (T, H, W) bool, True = consistent; False in the last frame.
        flow_backward: (T, H, W, 2) float32 pixels from frame i to i-1; zeros in the first frame.
        flow_backward_valid: (T, H, W) bool; False in the first frame.
        labels: (T, H, W) int64 class ids, -1 where the frame has no labels.
        label_map: the classes.
        truth: multi-view truth or None.
    """

    name: str
    rgb: Tensor
    cameras: Cameras
    space: Space
    disparity: Tensor
    motion: Tensor
    flow_forward: Tensor
    flow_forward_valid: Tensor
    flow_backward: Tensor
    flow_backward_valid: Tensor
    labels: Tensor
    label_map: LabelMap
    truth: MultiViewTruth | None = None

    @property
    def frames(self) -> int:
        return self.rgb.shape[0]

    @property
    def height(self) -> int:
        return self.rgb.shape[1]

    @property
    def width(self) -> int:
        return self.rgb.shape[2]

    def to(self, device) -> SceneData:
        """Copy with every tensor on `device`."""
        return to_device(self, device)


@dataclass(frozen=True)
class Rays:
    """Rays of one camera in field space.

    Attributes:
        origins: (R, 3) field-space points at u = 0.
        directions: (R, 3) field-space vectors; the ray ends at u = 1.
        view_dirs: (R, 3) unit world directions.
        uv: (R, 2) pixels.
    """

    origins: Tensor
    directions: Tensor
    view_dirs: Tensor
    uv: Tensor

    def __len__(self) -> int:
        return self.origins.shape[0]

    def at(self, u: Tensor) -> Tensor:
        """Field-space points (R, S, 3) at ray parameters u (R, S)."""
        return self.origins[:, None] + u[..., None] * self.directions[:, None]

    def select(self, index: Tensor | slice) -> Rays:
        """The rays at `index` (a slice, a mask or indices)."""
        return Rays(self.origins[index], self.directions[index], self.view_dirs[index], self.uv[index])


@dataclass(frozen=True)
class View:
    """A rendered image; quantities that were not asked for are None.

    Attributes:
        rgb: (H, W, 3) in [0, 1].
        logits: (H, W, K) composited class logits.
        depth: (H, W) distance along the viewing axis in world units.
        entropy: (H, W) entropy of the class distribution in nats.
        flow: (H, W, 2) pixels of motion to the next frame's time seen by this camera (scene motion).
        dynamic_opacity: (H, W) share of the pixel explained by the dynamic field, in [0, 1].
        static_rgb: (H, W, 3) the static field alone.
        dynamic_rgb: (H, W, 3) the dynamic field alone.
    """

    rgb: Tensor | None = None
    logits: Tensor | None = None
    depth: Tensor | None = None
    entropy: Tensor | None = None
    flow: Tensor | None = None
    dynamic_opacity: Tensor | None = None
    static_rgb: Tensor | None = None
    dynamic_rgb: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """(H, W) int64 class ids: the most likely class of each pixel."""
        return self.logits.argmax(dim=-1)
