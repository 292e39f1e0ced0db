"""Cameras adjusted to dense optical flow: points at rest should be seen where the flow says.

Structure from motion places cameras by some hundred points, among which moving things may have their share. Here the poses are
moved until the flow of as many pixels as possible is that of points at rest. Each pixel's point is the one of `fit_static`, in
closed form, so that the poses alone are searched for; a robust error keeps what moves out (Geman and McClure).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.data.prepare.flow import Flow
from semflow.geometry.cameras import Cameras
from semflow.geometry.triangulation import RayFit

PIXELS, STEPS, SEED = 1500, 300, 0  # of each frame; of Adam
TURN_RATE, MOVE_RATE, SLOWEST = 1e-3, 1e-2, 0.01  # first step sizes in radians and in mean camera steps; last of them, relative
OUTLIER = 0.5 / 480  # error, in image widths, beyond which a pixel hardly counts


@dataclass(frozen=True)
class Sightings:
    """Where P pixels of a frame are seen in K other frames.

    Attributes:
        uv: (P, 2). others: K frames. there: (K, P, 2) pixels. weight: (K, P) 1 where the flow holds, else 0.
    """

    uv: Tensor
    others: list[int]
    there: Tensor
    weight: Tensor


def adjusted(cameras: Cameras, flows: dict[tuple[int, int], Flow]) -> Cameras:
    """The cameras with poses that explain the flows best; their focal length and bounds stay."""
    generator = torch.Generator().manual_seed(SEED)
    sightings = [sampled(cameras, flows, frame, generator) for frame in range(len(cameras))]
    turn, move = (torch.zeros(len(cameras), 3, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam([{"params": [turn], "lr": TURN_RATE}, {"params": [move], "lr": MOVE_RATE}])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, SLOWEST ** (1 / STEPS))
    for _ in range(STEPS):
        optimizer.zero_grad()
        now = moved(cameras, turn, move)
        torch.stack([misfit(now, frame, seen) for frame, seen in enumerate(sightings)]).mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return moved(cameras, turn, move)


def sampled(cameras: Cameras, flows: dict[tuple[int, int], Flow], frame: int, generator: torch.Generator) -> Sightings:
    """Some pixels of a frame, drawn without replacement."""
    pixels = cameras.pixels().flatten(0, 1)
    chosen = torch.randperm(len(pixels), generator=generator)[:PIXELS]
    others = [other for here, other in flows if here == frame]
    there = torch.stack([pixels[chosen] + flows[frame, other].vectors.flatten(0, 1)[chosen] for other in others])
    weight = torch.stack([flows[frame, other].valid.flatten()[chosen].float() for other in others])
    return Sightings(pixels[chosen], others, there, weight)


def moved(cameras: Cameras, turn: Tensor, move: Tensor) -> Cameras:
    """Cameras turned by rotation vectors (T, 3) about their own axes, and moved by (T, 3) mean distances of neighbours."""
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    generators = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    centres = cameras.c2w[:, :, 3]
    step = (centres[1:] - centres[:-1]).norm(dim=-1).mean()
    turned = cameras.c2w[:, :, :3] @ torch.matrix_exp(generators)
    return replace(cameras, c2w=torch.cat([turned, (centres + step * move)[..., None]], dim=-1))


def misfit(cameras: Cameras, frame: int, seen: Sightings) -> Tensor:
    """Robust mean () over the sightings of how far the points at rest, nearest to all rays, project beside them; 0 to 1."""
    direction = F.normalize(cameras.directions(frame, seen.uv), dim=-1)
    fit = RayFit(direction, torch.zeros_like(direction[:, 0]), torch.zeros_like(direction[:, 0]))
    for other, uv, weight in zip(seen.others, seen.there, seen.weight):
        fit.add(cameras.center(other) - cameras.center(frame), F.normalize(cameras.directions(other, uv), dim=-1), weight)
    distance = fit.distance()
    points = cameras.center(frame) + distance.clamp(min=1e-3)[:, None] * direction
    error = torch.stack([(cameras.project(points, other)[0] - uv).square().sum(-1)
                         for other, uv in zip(seen.others, seen.there)])
    limit = (OUTLIER * cameras.width) ** 2
    return (seen.weight * error / (error + limit)).sum() / seen.weight.sum().clamp(min=1)
