"""Encodings of continuous coordinates: frequencies (published) and factorised feature planes."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLANE_INIT = 0.1  # spread of a space plane's initial values around 1


class FrequencyEncoding(nn.Module):
    """Sines and cosines in octaves, the input included (NeRF, eq. 4).

    Args:
        in_channels: coordinates per point.
        octaves: frequencies 2^0 ... 2^(octaves-1), times pi.
        normalize: scale the code to unit L2 norm, as the flow network does.
    """

    def __init__(self, in_channels: int, octaves: int, normalize: bool = False):
        super().__init__()
        self.normalize = normalize
        self.out_channels = in_channels * (1 + 2 * octaves)
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(octaves), persistent=False)

    def forward(self, coordinates: Tensor, scene: int = 0) -> Tensor:
        """(N, in_channels) in about [-1, 1] -> (N, out_channels). The scene index is not used."""
        angles = (coordinates[..., None] * self.frequencies).flatten(-2)
        code = torch.cat([coordinates, angles.sin(), angles.cos()], dim=-1)
        return F.normalize(code, dim=-1) if self.normalize else code


class PlaneEncoding(nn.Module):
    """Products of features read from axis-aligned planes, several resolutions (K-Planes, eq. 1).

    Coordinates (x, y, z) use three planes, (x, y, z, t) six. Space planes start near 1 with noise, space-time
    planes at exactly 1, so that a scene starts static. Every scene has its own planes.

    Args:
        boxes: (scenes, 2, in_channels) lower and upper corner of each scene in the coordinates; values
            outside are read at the border.
        channels: features per level.
        levels: resolution of the space axes, per level.
        time_steps: resolution of the time axis, per scene (ignored without time).
    """

    def __init__(self, boxes: Tensor, channels: int, levels: tuple[int, ...], time_steps: tuple[int, ...] = ()):
        super().__init__()
        self.in_channels = boxes.shape[-1]
        self.axes = tuple(itertools.combinations(range(self.in_channels), 2))
        self.levels = levels
        self.out_channels = channels * len(levels)
        self.register_buffer("boxes", boxes)
        self.planes = nn.ParameterList()
        self.space_time = tuple(3 in pair for pair in self.axes)
        for scene in range(len(boxes)):
            for resolution, (first, second) in itertools.product(levels, self.axes):
                rows = time_steps[scene] if second == 3 else resolution
                values = torch.ones(1, channels, rows, resolution)
                if second != 3:
                    values += PLANE_INIT * torch.randn_like(values)
                self.planes.append(nn.Parameter(values))

    def of_scene(self, scene: int) -> list[list[Tensor]]:
        """The planes of one scene: a list per level with a (1, C, rows, columns) tensor per axis pair."""
        size = len(self.axes)
        start = scene * size * len(self.levels)
        return [[self.planes[start + level * size + i] for i in range(size)] for level in range(len(self.levels))]

    def forward(self, coordinates: Tensor, scene: int = 0) -> Tensor:
        """(N, in_channels) -> (N, out_channels)."""
        low, high = self.boxes[scene]
        position = 2 * (coordinates - low) / (high - low) - 1
        grids = [position[:, list(pair)][None, None] for pair in self.axes]  # (1, 1, N, 2)
        features = []
        for planes in self.of_scene(scene):
            product = None
            for plane, grid in zip(planes, grids):
                read = F.grid_sample(plane, grid, padding_mode="border", align_corners=True)[0, :, 0]  # (C, N)
                product = read if product is None else product * read
            features.append(product)
        return torch.cat(features).T

    def variation(self, scene: int) -> Tensor:
        """Mean squared difference of neighbouring cells along the space axes of all planes, a scalar."""
        terms = []
        for planes in self.of_scene(scene):
            for plane, with_time in zip(planes, self.space_time):
                terms.append(plane.diff(dim=3).square().mean())
                if not with_time:
                    terms.append(plane.diff(dim=2).square().mean())
        return torch.stack(terms).mean()

    def time_roughness(self, scene: int) -> Tensor:
        """Mean squared second difference along the time axis of the space-time planes, a scalar."""
        pairs = [(p, w) for planes in self.of_scene(scene) for p, w in zip(planes, self.space_time)]
        terms = [p.diff(n=2, dim=2).square().mean() for p, with_time in pairs if with_time and p.shape[2] > 2]
        return torch.stack(terms).mean() if terms else torch.zeros((), device=self.boxes.device)
