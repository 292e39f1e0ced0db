"""The occupancy grid: which cells a visible corner occupies, and where points fall."""

import torch

from semflow.rendering.occupancy import OCCUPIED, grid_nodes, occupancy_from_nodes

BOX = torch.tensor([[-1.0, 0.0, 2.0], [1.0, 4.0, 3.0]])


def test_nodes_are_the_corners_of_the_cells_x_fastest():
    nodes = grid_nodes(BOX, 2)
    assert nodes.shape == (27, 3)
    torch.testing.assert_close(nodes[:4], torch.tensor([[-1.0, 0, 2], [0, 0, 2], [1, 0, 2], [-1, 2, 2]]))
    torch.testing.assert_close(nodes[-1], BOX[1])


def test_a_visible_corner_occupies_its_cells_and_their_neighbours():
    opacity = torch.zeros(9, 9, 9)
    opacity[4, 0, 2] = 2 * OCCUPIED  # z, y, x
    grid = occupancy_from_nodes(opacity.flatten(), BOX, 8)
    expected = torch.zeros(8, 8, 8, dtype=torch.bool)
    expected[2:6, :2, :4] = True
    assert torch.equal(grid.cells, expected)
    assert not occupancy_from_nodes(0.4 * opacity.flatten(), BOX, 8).cells.any()


def test_points_fall_into_their_cell_and_outside_counts_as_occupied():
    opacity = torch.zeros(5, 5, 5)
    opacity[0, 0, 0] = 1.0
    grid = occupancy_from_nodes(opacity.flatten(), BOX, 4)
    size = BOX[1] - BOX[0]
    inside = BOX[0] + size * torch.tensor(
        [[0.1, 0.1, 0.1], [0.49, 0.49, 0.49], [0.51, 0.1, 0.1], [0.1, 0.51, 0.1], [0.1, 0.1, 1.0]]
    )
    outside = BOX[0] + size * torch.tensor([[-0.1, 0.9, 0.9], [0.9, 1.1, 0.9]])
    assert grid.occupied(torch.cat([inside, outside])).tolist() == [True, True, False, False, False, True, True]
