"""Procedural textures without aliasing.

A texture maps coordinates (N, 3) and a footprint (N,), the width of a sample in those coordinates, to colours
(N, 3) in [0, 1]. Every pattern fades to its mean as the footprint reaches its wavelength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

Color = tuple[float, float, float]


class Texture(Protocol):
    """Colour of a surface."""

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        """Colours (N, 3) in [0, 1] at coordinates (N, 3) seen with footprint (N,)."""


@lru_cache(maxsize=64)
def _lattice(seed: int) -> tuple[Tensor, Tensor]:
    """A permutation (512,) and random values in [-1, 1] (256,) of a seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(256, generator=generator)
    return order.repeat(2), 2 * torch.rand(256, generator=generator, dtype=torch.float64) - 1


def cell_values(cells: Tensor, seed: int) -> Tensor:
    """Random values (N,) in [-1, 1] of integer cells (N, 3)."""
    order, values = _lattice(seed)
    x, y, z = (cells & 255).unbind(-1)
    return values[order[order[order[x] + y] + z]]


def value_noise(points: Tensor, seed: int) -> Tensor:
    """Smooth noise (N,) in [-1, 1] with one random value per unit cell of points (N, 3)."""
    order, values = _lattice(seed)
    base = points.floor()
    fade = points - base
    fade = fade * fade * (3 - 2 * fade)
    x, y, z = (base.long() & 255).unbind(-1)
    values = values.to(points.dtype)
    total = torch.zeros_like(fade[:, 0])
    for i in (0, 1):
        rows = order[x + i]
        weight_x = fade[:, 0] if i else 1 - fade[:, 0]
        for j in (0, 1):
            columns = order[rows + y + j]
            weight = weight_x * (fade[:, 1] if j else 1 - fade[:, 1])
            low, high = values[order[columns + z]], values[order[columns + z + 1]]
            total += weight * (low + fade[:, 2] * (high - low))
    return total


def fractal_noise(points: Tensor, footprint: Tensor, scale: float, octaves: int, seed: int) -> Tensor:
    """Sum (N,) of octaves of value noise, about [-1, 1]; `scale` is the first wavelength.

    An octave is faded out before its wavelength falls under two footprints.
    """
    total, amplitude, frequency = torch.zeros_like(footprint), 1.0, 1.0 / scale
    for octave in range(octaves):
        keep = (2 - 4 * footprint * frequency).clamp(0, 1)
        if keep.max() <= 0:
            break
        total = total + amplitude * keep * value_noise(points * frequency + 17.3 * octave, seed + octave)
        amplitude, frequency = 0.5 * amplitude, 2 * frequency
    return total


def square_wave(x: Tensor, footprint: Tensor, duty: float = 0.5) -> Tensor:
    """Soft square wave (N,) in [0, 1] of period 1: 1 over the first `duty` of the period.

    Edges are as wide as the footprint; wider footprints tend to the mean.
    """
    offset = (x - 0.5 * duty) - torch.floor(x - 0.5 * duty + 0.5)  # distance to the middle of the bright part
    sharp = ((0.5 * duty - offset.abs()) / footprint.clamp_min(1e-6) + 0.5).clamp(0, 1)
    return duty + (sharp - duty) * (2 - 2 * footprint).clamp(0, 1)


def mix(first: Color, second: Color, share: Tensor) -> Tensor:
    """Colours (N, 3) from `first` (share 0) to `second` (share 1)."""
    a, b = share.new_tensor(first), share.new_tensor(second)
    return a + share[:, None] * (b - a)


def palette(colors: tuple[Color, ...], position: Tensor) -> Tensor:
    """Colours (N, 3) along a list of colours, position (N,) in [0, 1], linear between neighbours."""
    table = position.new_tensor(colors)
    place = position.clamp(0, 1) * (len(colors) - 1)
    index = place.long().clamp_max(len(colors) - 2)
    share = (place - index)[:, None]
    return table[index] * (1 - share) + table[index + 1] * share


@dataclass(frozen=True)
class Grain:
    """Another texture made lively by fractal noise: colours are scaled by 1 + strength * noise."""

    base: Texture
    scale: float
    strength: float
    octaves: int
    seed: int

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        noise = fractal_noise(coordinates, footprint, self.scale, self.octaves, self.seed)
        return (self.base(coordinates, footprint) * (1 + self.strength * noise)[:, None]).clamp(0, 1)


@dataclass(frozen=True)
class Bricks:
    """Brickwork: `size` = width and height of a brick, every other row shifted, bricks differ in tone."""

    brick: Color
    mortar: Color
    size: tuple[float, float]
    tone: float
    seed: int

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        row = coordinates[:, 1] / self.size[1]
        column = coordinates[:, 0] / self.size[0] + 0.5 * (row.floor() % 2)
        across, along = footprint / self.size[1], footprint / self.size[0]
        inside = square_wave(row, across, 0.86) * square_wave(column, along, 0.93)
        cells = torch.stack([column.floor(), row.floor(), torch.zeros_like(row)], dim=-1).long()
        tone = 1 + self.tone * cell_values(cells, self.seed).to(row.dtype) * (2 - 3 * across).clamp(0, 1)
        bricks = footprint.new_tensor(self.brick) * tone[:, None]
        mortar = footprint.new_tensor(self.mortar)
        return (mortar + inside[:, None] * (bricks - mortar)).clamp(0, 1)


@dataclass(frozen=True)
class Checks:
    """Two-coloured tiles of edge length `size` whose tone differs from tile to tile."""

    first: Color
    second: Color
    size: float
    tone: float
    seed: int

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        x, y, width = coordinates[:, 0] / self.size, coordinates[:, 1] / self.size, footprint / self.size
        a, b = square_wave(0.5 * x, 0.5 * width), square_wave(0.5 * y, 0.5 * width)
        share = a * b + (1 - a) * (1 - b)
        cells = torch.stack([x.floor(), y.floor(), torch.zeros_like(x)], dim=-1).long()
        tone = self.tone * cell_values(cells, self.seed).to(x.dtype) * (2 - 3 * width).clamp(0, 1)
        return (mix(self.first, self.second, share) * (1 + tone)[:, None]).clamp(0, 1)


@dataclass(frozen=True)
class Stripes:
    """Stripes of two colours across `axis` of the coordinates."""

    first: Color
    second: Color
    period: float
    axis: int

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        share = square_wave(coordinates[:, self.axis] / self.period, footprint / self.period)
        return mix(self.first, self.second, share)


@dataclass(frozen=True)
class Gores:
    """Coloured segments around the y axis of a ball, with belts at the given heights, as on a balloon."""

    colors: tuple[Color, ...]
    segments: int
    belt: Color
    belt_height: float

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        x, y, z = coordinates.unbind(-1)
        turns = (torch.atan2(z, x) / (2 * math.pi) + 0.5) * self.segments
        width = footprint * self.segments / (2 * math.pi * (x * x + z * z).sqrt().clamp_min(1e-3))
        color = torch.zeros_like(coordinates)
        for number, value in enumerate(self.colors):
            share = square_wave((turns - number) / len(self.colors), width / len(self.colors), 1 / len(self.colors))
            color = color + share[:, None] * coordinates.new_tensor(value)
        edge = ((self.belt_height - y.abs()) / footprint.clamp_min(1e-6) + 0.5).clamp(0, 1)
        return (color + edge[:, None] * (coordinates.new_tensor(self.belt) - color)).clamp(0, 1)


@dataclass(frozen=True)
class Blotches:
    """Fractal noise read through a palette: paintings, continents, marble."""

    colors: tuple[Color, ...]
    scale: float
    octaves: int
    contrast: float
    seed: int

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        noise = fractal_noise(coordinates, footprint, self.scale, self.octaves, self.seed)
        return palette(self.colors, 0.5 + 0.5 * self.contrast * noise)


@dataclass(frozen=True)
class Framed:
    """Another texture inside a rim of width `rim` along the edges of the rectangle |x|, |y| <= half."""

    base: Texture
    rim_color: Color
    half: tuple[float, float]
    rim: float

    def __call__(self, coordinates: Tensor, footprint: Tensor) -> Tensor:
        room = coordinates.new_tensor(self.half) - coordinates[:, :2].abs()  # (N, 2) distance to the edges
        inside = ((room.amin(-1) - self.rim) / footprint.clamp_min(1e-6) + 0.5).clamp(0, 1)
        rim = coordinates.new_tensor(self.rim_color)
        return rim + inside[:, None] * (self.base(coordinates, footprint) - rim)
