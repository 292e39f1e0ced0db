"""The first half of what a field says: where something is, before it is asked what that looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.fields.chunks import split

POINTS = 4096  # without gradients even planes lose nothing by small parts


@dataclass(frozen=True)
class Solid:
    """Where a field sees something at N points, and what its heads need to tell what that looks like.

    Attributes:
        density: (N,) raw density. hidden: (N, D) output of the field's trunk, which the heads read.
        blend: (N,) share of the dynamic field, motion: (N, M) description of the motion; None for the static field,
            motion also where the aggregator gives none.
    """

    density: Tensor
    hidden: Tensor
    blend: Tensor | None = None
    motion: Tensor | None = None

    def select(self, index: Tensor | slice) -> Solid:
        """The points at `index` (a mask, indices or a slice)."""
        return Solid(*(None if value is None else value[index] for value in vars(self).values()))


def solid_in_parts(function: Callable[[Tensor], Solid], points: Tensor) -> Solid:
    """function(points) of points (N, 3), computed in parts of the points on a CPU; see `chunks`."""
    found = [vars(function(*part)) for part in split(POINTS, points)]
    names = [name for name, value in found[0].items() if value is not None]
    return Solid(**{name: torch.cat([part[name] for part in found]) for name in names})
