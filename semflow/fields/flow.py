"""The flow network: velocities of points, integrated over frame steps (docs/method.md, "Flow")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semflow.fields.chunks import in_parts, rows_of
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


@dataclass(frozen=True)
class Way:
    """Points (N, 3) in field space at the frame index `time`, to be moved by `offset` frames."""

    points: Tensor
    time: float
    offset: float


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
        return self.velocities([(points, time)], timeline, code, scene)[0]

    def velocities(self, places: Sequence[tuple[Tensor, float]], timeline: Timeline, code: Tensor, scene: int = 0) -> list[Tensor]:
        """`velocity` of several points (N, 3), each with a time, in one call of the network."""
        coordinates = [at_time(points, time, timeline) for points, time in places]
        size = self.encoding.part_points
        if self.recompute and torch.is_grad_enabled():  # one after the other: so much less is there again at a time
            again = partial(checkpoint, self.at_coordinates, use_reentrant=False, preserve_rng_state=False)
            return [in_parts(size, lambda part: again(part, code, scene), own) for own in coordinates]
        found = in_parts(size, lambda part: self.at_coordinates(part, code, scene), rows_of(coordinates))
        return list(found.split([len(points) for points, _ in places]))

    def at_coordinates(self, coordinates: Tensor, code: Tensor, scene: int) -> Tensor:
        """(N, 3) velocities at coordinates (N, 4)."""
        return self.velocity_of(self.encoding(coordinates, scene), code)

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
        return self.integrate([Way(points, time, offset)], timeline, code, scene)[0]

    def integrate(self, ways: Sequence[Way], timeline: Timeline, code: Tensor, scene: int, first: Sequence[Tensor] | None = None
                  ) -> list[Tensor]:
        """The ends (N, 3) of ways of the same length, by sub-steps that they take together.

        Args:
            first: the velocities (N, 3) at their starts, if known.
        """
        points = [way.points for way in ways]
        steps = math.ceil(abs(ways[0].offset) - 1e-9) * self.substeps  # rounding errors of an offset are no further step
        for step in range(steps):
            velocities = first if step == 0 else None
            if velocities is None:
                places = [(at, way.time + way.offset * step / steps) for at, way in zip(points, ways)]
                velocities = self.velocities(places, timeline, code, scene)
            points = [at + (way.offset / steps) * velocity for at, way, velocity in zip(points, ways, velocities)]
        return points

    def track(self, points: Tensor, frame: int, length: int, timeline: Timeline, code: Tensor, scene: int = 0) -> FlowTrack:
        """Positions of points (N, 3) of an integer frame at the neighbouring frames, see `tracks`."""
        return self.tracks([(points, frame)], length, timeline, code, scene)[0]

    def tracks(self, starts: Sequence[tuple[Tensor, int]], length: int, timeline: Timeline, code: Tensor, scene: int = 0
               ) -> list[FlowTrack]:
        """Positions of points at the neighbouring frames, for points of several frames at once.

        Both directions start with the same velocity, that of the point itself at its own time: it is computed once.

        Args:
            starts: points (N, 3), each with their integer frame.
            length: 1 (the point alone), 3 (t-1, t, t+1) or 5.

        Returns:
            FlowTrack of each in the order of time. Neighbours before the first or after the last frame of this scene are
            kept out: they are not in the track.
        """
        positions = [{0: points} for points, _ in starts]
        reach = length // 2 if timeline.frames > 1 else 0
        first = self.velocities(starts, timeline, code, scene) if reach else []
        for distance in range(1, reach + 1):
            ways = {
                (index, way): Way(positions[index][way * (distance - 1)], frame + way * (distance - 1), way)
                for index, (_, frame) in enumerate(starts) for way in (-1, 1) if 0 <= frame + way * distance < timeline.frames}
            known = [first[index] for index, _ in ways] if distance == 1 else None
            moved = self.integrate(list(ways.values()), timeline, code, scene, known) if ways else []
            for (index, way), points in zip(ways, moved):
                positions[index][way * distance] = points
        return [FlowTrack(frame, dict(sorted(found.items()))) for (_, frame), found in zip(starts, positions)]
