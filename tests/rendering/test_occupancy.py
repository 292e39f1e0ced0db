"""The occupancy grid: nothing visible is left out, empty space is, and nothing outside is assumed."""

import torch

from semflow.rendering.occupancy import OCCUPIED, grid_nodes, occupancy_from_nodes

BOX = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 4.0, 3.0]])  # three different extents: swapped axes would show
CENTRE, RADIUS, RESOLUTION = torch.tensor([-0.4, 2.5, 2.1]), 0.4, 12


def random_points(count: int = 4000) -> torch.Tensor:
    return BOX[0] + torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * (BOX[1] - BOX[0])


def blob_grid():
    nodes = grid_nodes(BOX, RESOLUTION)
    return occupancy_from_nodes(((nodes - CENTRE).norm(dim=-1) < RADIUS).float(), BOX, RESOLUTION)


def test_nodes_are_the_corners_of_the_cells_with_x_fastest():
    nodes = grid_nodes(BOX, 2)
    assert nodes.shape == (27, 3)
    torch.testing.assert_close(nodes[0], BOX[0])
    torch.testing.assert_close(nodes[1], torch.tensor([0.0, -2.0, 0.0]))
    torch.testing.assert_close(nodes[3], torch.tensor([-1.0, 1.0, 0.0]))
    torch.testing.assert_close(nodes[9], torch.tensor([-1.0, -2.0, 1.5]))
    torch.testing.assert_close(nodes[26], BOX[1])


def test_a_blob_is_covered_and_empty_space_is_not():
    points = random_points()
    distance, occupied = (points - CENTRE).norm(dim=-1), blob_grid().occupied(points)
    assert (distance < RADIUS).sum() > 10
    assert occupied[distance < RADIUS].all()
    diagonal = float(((BOX[1] - BOX[0]) / RESOLUTION).norm())
    assert not occupied[distance > RADIUS + 2 * diagonal].any()


def test_points_outside_the_box_count_as_occupied():
    below, above = BOX[0] - 0.01 * torch.eye(3), BOX[1] + 0.01 * torch.eye(3)  # out along one axis at a time
    assert blob_grid().occupied(torch.cat([below, above])).all()


def test_the_corners_of_the_box_are_inside():
    assert not blob_grid().occupied(BOX).any()


def test_one_visible_corner_occupies_its_cells_and_those_beside_them():
    opacity = torch.zeros((RESOLUTION + 1,) * 3)
    opacity[4, 6, 9] = 2 * OCCUPIED
    cells = occupancy_from_nodes(opacity.flatten(), BOX, RESOLUTION).cells
    expected = torch.zeros_like(cells)
    expected[2:6, 4:8, 7:11] = True
    assert torch.equal(cells, expected)


def test_what_is_too_faint_to_see_is_empty():
    opacity = torch.full(((RESOLUTION + 1) ** 3,), 0.9 * OCCUPIED)
    assert not occupancy_from_nodes(opacity, BOX, RESOLUTION).cells.any()
