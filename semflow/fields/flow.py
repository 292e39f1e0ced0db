"""The flow network: velocities of points, integrated over frame steps (METHOD section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semflow.fields.chunks import in_parts, split
from semflow.fields.linear import Linear
from semflow.fields.mlp import CodeBlock
from semflow.records import FlowTrack


def normalised_time(time: float | Tensor, frames: int):
    """Frame index in [0, frames-1] -> t = 2 time / frames - 1, the only time that networks see."""
    return 2.0 * time / frames - 1.0


@dataclass(frozen=True)
class Timeline:
    """Frames that follow each other: all of a scene, or some whose place in the scene is for the device to know alone.

    Attributes:
        frames: how many there are; frame indices count from the first of them.
        whole: T, frames of the scene; None: these are all.
        start: () float64, where the first of them lies in the scene; None: they are the first of the scene.
    """

    frames: int
    whole: int | None = None
    start: Tensor | None = None

    def normalised(self, time: float) -> float | Tensor:
        """The normalised time of a frame index."""
        return normalised_time(time if self.start is None else self.start + time, self.whole or self.frames)


def at_time(points: Tensor, time: float, timeline: Timeline) -> Tensor:
    """(N, 4) coordinates of points (N, 3) at a frame index: the points and the normalised time."""
    normalised = timeline.normalised(time)
    if isinstance(normalised, Tensor):
        column = normalised.to(points.dtype).expand(len(points), 1)
    else:
        column = torch.full_like(points[:, :1], normalised)
    return torch.cat([points, column], dim=-1)


class FlowNetwork(nn.Module):
    """Velocity field v(x, t | clip) and its Euler integral.

    Args:
        encoding: module (N, 4), scene -> (N, E), over field-space points and normalised time.
        width: hidden width.
        code_channels: length of the clip code (0 = none).
        substeps: Euler steps K per frame step.
    """

    def __init__(self, encoding: nn.Module, width: int, code_channels: int, substeps: int):
        super().__init__()
        self.encoding = encoding
        self.substeps = substeps
        self.recompute = False  # keep no activations of velocities, compute them again in the backward pass
        self.first = Linear(encoding.out_channels, width)
        self.blocks = nn.ModuleList(CodeBlock(width, code_channels) for _ in range(2))
        self.last = Linear(width, 3)
        nn.init.normal_(self.last.weight, std=1e-3)  # a scene starts at rest
        nn.init.zeros_(self.last.bias)

    def velocity(self, points: Tensor, time: float, timeline: Timeline, code: Tensor, scene: int = 0) -> Tensor:
        """Velocity in field units per frame step.

        Args:
            points: (N, 3) field-space points.
            time: frame index, fractional allowed.
            timeline: the frames of the scene.
            code: (Z,) clip code.
            scene: index of the scene in the model.

        Returns:
            (N, 3), each component in (-1, 1).
        """
        return self.velocity_of(self.encoding(at_time(points, time, timeline), scene), code)

    def velocity_of(self, encoded: Tensor, code: Tensor) -> Tensor:
        """`velocity` at encoded coordinates (N, E): the network itself."""
        hidden = torch.relu_(self.first(encoded))
        for block in self.blocks:
            hidden = block(hidden, code)
        return torch.tanh(self.last(torch.relu_(hidden)))

    def advect(self, points: Tensor, time: float, offset: float, timeline: Timeline, code: Tensor, scene: int = 0) -> Tensor:
        """Where points of `time` are at `time + offset`.

        Each frame step takes K Euler sub-steps x <- x + d v(x, t) / K with d = +1 or -1; a fractional offset is divided
        into equal steps that are no longer than those. Forward and backward are the same function with another offset
        and keep no state.

        Args:
            points: (N, 3). offset: frames to move, any sign.

        Returns:
            (N, 3) field-space points at `time + offset`.
        """
        return in_parts(
            self.encoding.part_points, lambda part: self.integrate(part, time, offset, timeline, code, scene), points)

    def integrate(self, points: Tensor, time: float, offset: float, timeline: Timeline, code: Tensor, scene: int,
                  first: Tensor | None = None) -> Tensor:
        """The sub-steps of `advect`, for a part of the points; `first`: the velocity (N, 3) at their start, if known."""
        steps = math.ceil(abs(offset) - 1e-9) * self.substeps  # rounding errors of an offset are no further step
        for step in range(steps):
            known = first is not None and step == 0
            velocity = first if known else self.kept_velocity(points, time + offset * step / steps, timeline, code, scene)
            points = points + (offset / steps) * velocity
        return points

    def kept_velocity(self, points: Tensor, time: float, timeline: Timeline, code: Tensor, scene: int) -> Tensor:
        """`velocity`, its activations kept for the backward pass or computed again there."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.velocity, points, time, timeline, code, scene,
                              use_reentrant=False, preserve_rng_state=False)
        return self.velocity(points, time, timeline, code, scene)

    def track(self, points: Tensor, frame: int, length: int, timeline: Timeline, code: Tensor, scene: int = 0) -> FlowTrack:
        """Positions of points at the neighbouring frames.

        Args:
            points: (N, 3) at integer `frame`.
            length: 1 (the point alone), 3 (t-1, t, t+1) or 5.

        Returns:
            FlowTrack in the order of time. Neighbours before the first or after the last frame of this scene are
            kept out: they are not in the track.
        """
        parts = [self.positions(part, frame, length, timeline, code, scene) for (part,) in split(self.encoding.part_points, points)]
        joined = {offset: torch.cat([part[offset] for part in parts]) for offset in parts[0]}
        return FlowTrack(frame=frame, positions=dict(sorted((joined | {0: points}).items())))

    def positions(self, points: Tensor, frame: int, length: int, timeline: Timeline, code: Tensor, scene: int) -> dict[int, Tensor]:
        """Offset -> (N, 3) positions of a part of the points of a track.

        Both directions start with the same velocity, that of the point itself at its own time: it is computed once.
        """
        positions = {0: points}
        if length == 1 or timeline.frames == 1:
            return positions
        first = self.kept_velocity(points, frame, timeline, code, scene)
        for direction in (-1, 1):
            for distance in range(1, length // 2 + 1):
                offset = direction * distance
                if 0 <= frame + offset < timeline.frames:
                    start = positions[offset - direction]
                    positions[offset] = self.integrate(
                        start, frame + offset - direction, direction, timeline, code, scene, first if distance == 1 else None)
        return positions
