"""A coarse grid that tells where the dynamic field can be seen at one time, so that the rest need not be queried."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

OCCUPIED = 2e-2  # visible opacity (blending times alpha) of a cell's thickness that counts


@dataclass(frozen=True)
class OccupancyGrid:
    """Occupied cells of a box in field space.

    Attributes:
        cells: (G, G, G) bool, axes z, y, x. box: (2, 3) corners; points outside count as occupied.
    """

    cells: Tensor
    box: Tensor

    def occupied(self, points: Tensor) -> Tensor:
        """(N,) bool for points (N, 3)."""
        resolution = len(self.cells)
        position = (points - self.box[0]) / (self.box[1] - self.box[0]) * resolution
        outside = ((position < 0) | (position > resolution)).any(-1)
        x, y, z = position.long().clamp(0, resolution - 1).unbind(-1)
        return self.cells[z, y, x] | outside


def grid_nodes(box: Tensor, resolution: int) -> Tensor:
    """((G+1)^3, 3) corners of the cells of a box (2, 3), x fastest."""
    steps = torch.linspace(0, 1, resolution + 1, device=box.device)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return box[0] + torch.stack([x, y, z], dim=-1).view(-1, 3) * (box[1] - box[0])


def occupancy_from_nodes(opacity: Tensor, box: Tensor, resolution: int) -> OccupancyGrid:
    """Grid from the visible opacity ((G+1)^3,) at the cells' corners.

    A cell is occupied if a corner of it or of an adjoining cell is: details smaller than a cell that touch no corner
    are covered by the margin.
    """
    nodes = opacity.view(1, 1, *[resolution + 1] * 3)
    highest = F.max_pool3d(nodes, kernel_size=2, stride=1)  # corners -> cells
    highest = F.max_pool3d(highest, kernel_size=3, stride=1, padding=1)
    return OccupancyGrid(highest[0, 0] > OCCUPIED, box)
