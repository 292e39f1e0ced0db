"""Fields of many points, a part at a time: tensors stay small enough for the allocator and the caches of a CPU.

An operation on all points of a published step makes tensors of 32 MB and more. The C library maps such memory anew
for every one of them, and the system hands it out zeroed page by page; nothing of it stays in a cache. Parts of the
points reuse the memory of those before. How many points make a part is for their encoding to say (`part_points`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semflow.records import FieldSamples, FlowTrack


def in_parts(size: int, function: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """function(*tensors) (N, ...) of tensors (N, ...) or None, computed in parts of `size` points on a CPU."""
    return rows_of([function(*part) for part in split(size, *tensors)])


def samples_in_parts(size: int, function: Callable[..., FieldSamples], *tensors: Tensor | None) -> FieldSamples:
    """The same for a function that gives field samples (N,)."""
    return joined([function(*part) for part in split(size, *tensors)])


def joined(parts: list[FieldSamples]) -> FieldSamples:
    """The samples (N,) of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    return FieldSamples(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def separated(samples: FieldSamples, counts: list[int]) -> list[FieldSamples]:
    """The samples (N,) of so many points each: what `joined` has joined."""
    parts = [[None] * len(counts) if values is None else values.split(counts) for values in vars(samples).values()]
    return [FieldSamples(*part) for part in zip(*parts)]


def rows_of(parts: Sequence[Tensor]) -> Tensor:
    """The rows (N, ...) of all parts, one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))


def rays_in_parts(size: int, tracks: Sequence[FlowTrack], rays: Sequence[int]) -> list[list[tuple[FlowTrack, int]]]:
    """Tracks of the points of some rays (N = rays * S), and how many rays each, in parts of whole rays of about `size`
    points on a CPU. A part may hold rays of several tracks, and follows the one before.
    """
    if tracks[0].positions[0].device.type != "cpu":
        return [list(zip(tracks, rays))]
    pieces = [piece for track, count in zip(tracks, rays) for piece in pieces_of(size, track, count)]
    parts: list[list[tuple[FlowTrack, int]]] = []
    room = 0
    for track, count in pieces:
        points = len(track.positions[0])
        if points > room or not parts:
            parts.append([])
            room = size
        parts[-1].append((track, count))
        room -= points
    return parts


def pieces_of(size: int, track: FlowTrack, rays: int) -> list[tuple[FlowTrack, int]]:
    """A track in pieces of whole rays of about `size` points, with their rays."""
    points = track.positions[0]
    if len(points) <= size:
        return [(track, rays)]
    per_ray = len(points) // rays
    size = max(1, size // per_ray) * per_ray
    pieces = zip(*(values.split(size) for values in track.positions.values()))
    tracks = [FlowTrack(track.frame, dict(zip(track.positions, piece))) for piece in pieces]
    return [(piece, len(piece.positions[0]) // per_ray) for piece in tracks]


def split(size: int, *tensors: Tensor | None) -> list[tuple[Tensor | None, ...]]:
    """Parts of `size` rows of tensors (N, ...), the first of which is not None; one part on other devices than a CPU."""
    count = len(tensors[0])
    if tensors[0].device.type != "cpu" or count <= size:
        return [tensors]
    number = -(-count // size)
    return list(zip(*([None] * number if tensor is None else tensor.split(size) for tensor in tensors)))
