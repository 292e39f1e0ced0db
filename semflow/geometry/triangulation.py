"""Depth of static pixels from optical flow and known cameras, and calibration of monocular inverse depth with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.geometry.cameras import Cameras

MIN_PARALLAX = 0.01  # radians between the first and the last ray: less does not triangulate
MAX_REPROJECTION = 1.5  # pixels, mean over the chain
FARTHEST = 1e3  # times the far bound: as far as infinity


@dataclass(frozen=True)
class Triangulation:
    """Depth along the axis of each frame's camera.

    Attributes:
        depth: (T, H, W) world units, meaningful where valid. valid: (T, H, W) bool.
    """

    depth: Tensor
    valid: Tensor


def read_image(image: Tensor, uv: Tensor) -> Tensor:
    """Bilinear read of (H, W, C) at pixels uv (N, 2): (N, C)."""
    height, width, _ = image.shape
    grid = (uv * torch.tensor([2.0 / width, 2.0 / height], device=uv.device) - 1)[None, None]
    return F.grid_sample(image.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)[0, :, 0].T


@dataclass
class RayFit:
    """Distance along each pixel's own ray at which the rays of the other views pass nearest, by least squares.

    The pixel's ray is exact, the others carry the errors of the flow: with their offsets b and unit directions e from
    the pixel's camera, the distance along its unit direction d is sum (d x e).(b x e) / sum |d x e|^2. One unknown
    instead of three keeps float32 accurate at small parallax, and nothing needs to be regularised.
    """

    direction: Tensor  # (N, 3) unit
    above: Tensor  # (N,)
    below: Tensor  # (N,)

    def add(self, offset: Tensor, direction: Tensor, weight: Tensor) -> None:
        """Add rays from `offset` (3,) relative to the pixel's camera along unit `direction` (N, 3), weights (N,)."""
        across = torch.linalg.cross(self.direction, direction)
        self.above += weight * (across * torch.linalg.cross(offset.expand_as(direction), direction)).sum(-1)
        self.below += weight * across.square().sum(-1)

    def distance(self) -> Tensor:
        """(N,) world units; 0 where no ray with any parallax was added."""
        return self.above / self.below.clamp(min=1e-12)


def follow(frame: int, step: int, reach: int, cameras: Cameras, flow: Tensor, usable: Tensor, uv: Tensor | None = None):
    """Follow pixels uv (N, 2) of a frame, by default all, along chained flows while they stay usable.

    Yields:
        (other frame, uv (N, 2) there, alive (N,) bool).
    """
    uv = cameras.pixels().flatten(0, 1) if uv is None else uv
    alive = torch.ones(len(uv), dtype=torch.bool, device=uv.device)
    for distance in range(1, reach + 1):
        here, there = frame + step * (distance - 1), frame + step * distance
        if not 0 <= there < len(cameras):
            return
        alive = alive & (read_image(usable[here][..., None].float(), uv)[:, 0] > 0.99)
        uv = uv + read_image(flow[here], uv)
        alive = alive & cameras.inside(uv)
        yield there, uv, alive


def triangulate(cameras: Cameras, flow_forward: Tensor, forward_valid: Tensor, flow_backward: Tensor,
                backward_valid: Tensor, motion: Tensor, reach: int = 4) -> Triangulation:
    """Triangulate every static pixel from its flow chains in both directions of time.

    Args:
        cameras: T cameras of (H, W) images.
        flow_forward, flow_backward: (T, H, W, 2) pixels; *_valid: (T, H, W) bool.
        motion: (T, H, W) bool, moving pixels take no part.
        reach: longest chain in frames, each way.

    Returns:
        Depths that reproject within 1.5 pixels, seen with enough parallax, in front of the camera.
    """
    depths, valids = [], []
    static = ~motion
    chains = ((1, flow_forward, forward_valid & static), (-1, flow_backward, backward_valid & static))
    for frame in range(len(cameras)):
        seen = [item for step, flow, usable in chains for item in follow(frame, step, reach, cameras, flow, usable)]
        depth, valid = triangulate_frame(cameras, frame, seen)
        depths.append(depth)
        valids.append(valid & static[frame])
    return Triangulation(torch.stack(depths), torch.stack(valids))


@dataclass(frozen=True)
class StaticFit:
    """The points at rest that explain best where the pixels of a frame are seen in others.

    Attributes:
        depth: (N,) along the axis of the frame's camera, world units; that of a point as good as infinitely far where the rays
            meet nowhere in front of the camera.
        error: (N,) pixels between where they are seen and where the points project, mean over the other frames; 1000 for a
            frame that has the point behind it. seen: (N,) number of other frames. parallax: (N,) largest angle at the point,
            radians. baseline: (N,) largest distance of another frame's camera from the pixel's ray, world units.
    """

    depth: Tensor
    error: Tensor
    seen: Tensor
    parallax: Tensor
    baseline: Tensor


def triangulate_frame(cameras: Cameras, frame: int, seen: list[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Depth (H, W) and validity (H, W) of one frame from the pixels where it is seen in others."""
    fit = fit_static(cameras, frame, seen)
    good = (fit.seen > 0) & (fit.parallax > MIN_PARALLAX) & (fit.error < MAX_REPROJECTION) & (fit.depth > 1e-3)
    shape = (cameras.height, cameras.width)
    return torch.where(good, fit.depth, 1.0).view(shape), good.view(shape)


def fit_static(cameras: Cameras, frame: int, seen: list[tuple[int, Tensor, Tensor]]) -> StaticFit:
    """Triangulate all N = H * W pixels of a frame, as if everything were at rest.

    Args:
        seen: other frames, each with the pixels uv (N, 2) where the frame's own are seen there, and alive (N,) bool.
    """
    direction = F.normalize(cameras.directions(frame, cameras.pixels().flatten(0, 1)), dim=-1)
    fit = RayFit(direction, torch.zeros_like(direction[:, 0]), torch.zeros_like(direction[:, 0]))
    for other, uv, alive in seen:
        offset = cameras.center(other) - cameras.center(frame)
        fit.add(offset, F.normalize(cameras.directions(other, uv), dim=-1), alive.float())
    farthest, distance = FARTHEST * cameras.far[frame], fit.distance()
    distance = torch.where((distance > 0) & (distance < farthest), distance, farthest)
    points = cameras.center(frame) + distance[:, None] * direction
    error, count, parallax, baseline = (torch.zeros_like(distance) for _ in range(4))
    for other, uv, alive in seen:
        found, in_front = cameras.project(points, other)
        error += torch.where(alive & in_front, (found - uv).norm(dim=-1), 0.0)
        error += torch.where(alive & ~in_front, 1e3, 0.0)
        count += alive
        to_here, to_there = (F.normalize(points - cameras.center(f), dim=-1) for f in (frame, other))
        angle = torch.linalg.cross(to_here, to_there).norm(dim=-1)
        parallax = torch.maximum(parallax, torch.where(alive, angle, 0.0))
        aside = torch.linalg.cross((cameras.center(other) - cameras.center(frame)).expand_as(direction), direction).norm(dim=-1)
        baseline = torch.maximum(baseline, torch.where(alive, aside, 0.0))
    return StaticFit(cameras.depth(points, frame), error / count.clamp(min=1), count, parallax, baseline)


@dataclass(frozen=True)
class Calibration:
    """Metric depth from monocular inverse depth.

    Attributes:
        depth: (T, H, W) world units. calibrated: (T,) bool, False where too few pixels were triangulated.
        error: (T,) median relative error of the inverse depth on triangulated pixels.
    """

    depth: Tensor
    calibrated: Tensor
    error: Tensor


def calibrate(disparity: Tensor, triangulation: Triangulation, near: float, far: float, min_pixels: int = 100) -> Calibration:
    """Fit 1 / depth = scale * disparity + shift per frame, robustly (iteratively reweighted least squares, L1).

    Args:
        disparity: (T, H, W) inverse depth with unknown scale and shift per frame.
        near, far: depths are clamped to this range of world units.
        min_pixels: frames with fewer triangulated pixels stay uncalibrated.
    """
    depths, flags, errors = [], [], []
    for frame in range(len(disparity)):
        valid = triangulation.valid[frame]
        known = int(valid.sum()) >= min_pixels
        scale_shift = fit_affine(disparity[frame][valid], 1.0 / triangulation.depth[frame][valid]) if known else None
        known = known and bool(scale_shift[0] > 0)
        inverse = disparity[frame] * scale_shift[0] + scale_shift[1] if known else torch.ones_like(disparity[frame])
        depths.append(1.0 / inverse.clamp(1.0 / far, 1.0 / near))
        flags.append(known)
        relative = (inverse * triangulation.depth[frame] - 1).abs()[valid]
        errors.append(float(relative.median()) if known else float("nan"))
    device = disparity.device
    return Calibration(torch.stack(depths), torch.tensor(flags, device=device), torch.tensor(errors, device=device))


def fit_affine(x: Tensor, y: Tensor, rounds: int = 20) -> Tensor:
    """(2,) scale and shift of the L1 fit y = scale * x + shift for x, y (N,)."""
    device = x.device
    x, y = x.cpu().double(), y.cpu().double()  # not every device computes in double precision
    centre, spread = x.mean(), x.std().clamp(min=1e-12)
    x = (x - centre) / spread
    weight = torch.ones_like(x)
    for _ in range(rounds):
        total, mean_x, mean_y = weight.sum(), (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        variance = (weight * (x - mean_x).square()).sum() / total
        slope = (weight * (x - mean_x) * (y - mean_y)).sum() / total / variance.clamp(min=1e-12)
        residual = (slope * (x - mean_x) + mean_y - y).abs()
        weight = 1.0 / residual.clamp(min=1e-6 * float(y.abs().median()) + 1e-12)
    scale = slope / spread
    return torch.stack([scale, mean_y - slope * mean_x - scale * centre]).float().to(device)
