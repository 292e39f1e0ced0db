"""Fields of many points, a part at a time: tensors stay small enough for the allocator and the caches of a CPU.

An operation on all points of a published step makes tensors of 32 MB and more. The C library maps such memory anew
for every one of them, and the system hands it out zeroed page by page; nothing of it stays in a cache. Parts of the
points reuse the memory of those before. How many points make a part is for their encoding to say (`part_points`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from semflow.records import FieldSamples, FlowTrack

def in_parts(size: int, function: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """function(*tensors) (N, ...) of tensors (N, ...) or None, computed in parts of `size` points on a CPU."""
    parts = split(size, *tensors)
    return function(*parts[0]) if len(parts) == 1 else torch.cat([function(*part) for part in parts])


def samples_in_parts(size: int, function: Callable[..., FieldSamples], *tensors: Tensor | None) -> FieldSamples:
    """The same for a function that gives field samples (N,)."""
    return joined([function(*part) for part in split(size, *tensors)])


def joined(parts: list[FieldSamples]) -> FieldSamples:
    """The samples (N,) of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    return FieldSamples(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def rays_in_parts(size: int, track: FlowTrack, rays: int) -> list[tuple[FlowTrack, int]]:
    """A track of the points of some rays (N = rays * S) in parts of whole rays of about `size` points, with their rays."""
    points = track.positions[0]
    if points.device.type != "cpu" or len(points) <= size:
        return [(track, rays)]
    per_ray = len(points) // rays
    size = max(1, size // per_ray) * per_ray
    parts = zip(*(values.split(size) for values in track.positions.values()))
    tracks = [FlowTrack(track.frame, dict(zip(track.positions, part))) for part in parts]
    return [(part, len(part.positions[0]) // per_ray) for part in tracks]


def split(size: int, *tensors: Tensor | None) -> list[tuple[Tensor | None, ...]]:
    """Parts of `size` rows of tensors (N, ...), the first of which is not None; one part on other devices than a CPU."""
    count = len(tensors[0])
    if tensors[0].device.type != "cpu" or count <= size:
        return [tensors]
    number = -(-count // size)
    return list(zip(*([None] * number if tensor is None else tensor.split(size) for tensor in tensors)))
