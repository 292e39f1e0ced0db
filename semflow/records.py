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
class FlowTrack:
    """Where points are at the frames around `frame`.

    Attributes:
        frame: the integer frame of the points themselves.
        positions: offset in frames -> (N, 3) field-space points, in the order of time. Offset 0 is always there;
            a neighbour outside the scene's frames is absent. The frames follow each other.
    """

    frame: int
    positions: dict[int, Tensor]

    def displacement(self, offset: int) -> Tensor:
        """(N, 3) position at `offset` minus the position at the frame itself."""
        return self.positions[offset] - self.positions[0]


@dataclass(frozen=True)
class FieldSamples:
    """What a field says about N points, or R x S points of rays.

    Attributes:
        density: (...,) raw density sigma; rendering applies relu.
        rgb: (..., 3) in [0, 1].
        logits: (..., K) class logits.
        blend: (...,) share of the dynamic field in [0, 1]; None for the static field.
    """

    density: Tensor
    rgb: Tensor
    logits: Tensor
    blend: Tensor | None = None

    def on_rays(self, rays: int, samples: int = -1) -> FieldSamples:
        """The samples of rays, (R*S, ...) -> (R, S, ...); `samples` says S where there may be no ray at all."""
        size = (rays, samples)
        blend = None if self.blend is None else self.blend.view(size)
        return FieldSamples(
            self.density.view(size), self.rgb.view(*size, 3), self.logits.view(*size, self.logits.shape[-1]), blend)


@dataclass(frozen=True)
class Rendering:
    """Composited quantities of R rays.

    Attributes:
        rgb: (R, 3).
        logits: (R, K) composited class logits.
        depth: (R,) expected ray parameter u (not divided by the opacity).
        opacity: (R,) sum of the weights.
        weights: (R, S) weights of the samples (of the dynamic and static samples added, in a blended rendering).
    """

    rgb: Tensor
    logits: Tensor
    depth: Tensor
    opacity: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Neighbour:
    """The same rays rendered with the dynamic field of a neighbouring frame, along the flow.

    Attributes:
        rays: the rays that were rendered, from some ray to the last.
        samples: dynamic samples (R', S) at the moved points.
        rendering: their composite along the original rays.
        track: track (of R'*S points) that starts at the moved points.
    """

    rays: slice
    samples: FieldSamples
    rendering: Rendering
    track: FlowTrack


@dataclass(frozen=True)
class RenderOutputs:
    """Everything a training step renders for R rays of one frame; what was not asked for is None.

    Attributes:
        rays: the rays.
        frame: their frame.
        u: (R, S) ray parameters of the samples.
        points: (R, S, 3) field-space points.
        static, dynamic: raw samples of the fields.
        static_view, dynamic_view, full: renderings of the static, the dynamic and both fields.
        dynamic_share: (R,) sum of the weights T b alpha_dy in the blended rendering.
        track: flow track of the R*S points.
        neighbours: offset (-1 or +1) -> warped rendering; absent at the ends of the scene.
    """

    rays: Rays
    frame: int
    u: Tensor
    points: Tensor
    static: FieldSamples | None = None
    dynamic: FieldSamples | None = None
    static_view: Rendering | None = None
    dynamic_view: Rendering | None = None
    full: Rendering | None = None
    dynamic_share: Tensor | None = None
    track: FlowTrack | None = None
    neighbours: dict[int, Neighbour] | None = None


@dataclass(frozen=True)
class RayBatch:
    """Rays of one frame, their targets and validity masks. What the program decides by is no tensor: no GPU is waited for.

    Attributes:
        rays: R rays.
        frame: their frame. source: the frame whose image features the static field reads.
        still: how many rays are static; they come first, those that move after them.
        rgb: (R, 3) colour targets; labels: (R,) int64, -1 = none.
        color_valid: (R,) bool, colour may train the dynamic field.
        flow: offset (-1, +1) -> (R, 2) optical flow in pixels; flow_valid: the same -> (R,) bool.
        disparity: (R,) inverse depth, unknown scale and shift.
        surface_u: (R,) ray parameter of the surface seen by the pixel, as far as it is known.
        surface_metric: surface_u is calibrated in this frame, not only ordered.
        triangulated_u: (R,) ray parameter found by triangulation; triangulated_valid: (R,) bool.
    """

    rays: Rays
    frame: int
    source: int
    still: int
    rgb: Tensor
    labels: Tensor
    color_valid: Tensor
    flow: dict[int, Tensor]
    flow_valid: dict[int, Tensor]
    disparity: Tensor
    surface_u: Tensor
    surface_metric: bool
    triangulated_u: Tensor
    triangulated_valid: Tensor

    @property
    def moving(self) -> Tensor:
        """(R,) bool motion mask."""
        return torch.arange(len(self.rays), device=self.rgb.device) >= self.still

    def select(self, index: slice) -> RayBatch:
        """The rays of a slice, forward, with their targets."""
        parts = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                parts[name] = value[index]
            elif isinstance(value, dict):
                parts[name] = {offset: values[index] for offset, values in value.items()}
        still = len(range(self.still)[index])
        return replace(self, rays=self.rays.select(index), still=still, **parts)


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
        dynamic_rgb: (H, W, 3) what the dynamic field contributes, over grey.
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
