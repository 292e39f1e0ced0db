"""Fields in parts of the points: the same values and gradients as at once."""

import pytest
import torch

from semflow.encoders.positional import FrequencyEncoding
from semflow.fields import chunks
from semflow.fields.aggregation import FlowFeatures
from semflow.fields.dynamic import DynamicField
from semflow.fields.flow import FlowNetwork, Timeline, at_time
from semflow.fields.static import StaticField
from semflow.records import FlowTrack

POINTS = 25


def dynamic(points: torch.Tensor) -> list[torch.Tensor]:
    field = DynamicField(FrequencyEncoding(4, 2), 8, 1, 1, 3, True, 6, 4).double()
    features = FlowFeatures(*(torch.rand(POINTS, width, dtype=torch.float64) for width in (8, 8, 6)))
    return list(vars(field(at_time(points, 1, Timeline(5)), torch.rand(3, dtype=torch.float64), features)).values())


def static(points: torch.Tensor) -> list[torch.Tensor]:
    field = StaticField(FrequencyEncoding(3, 2), 8, 2, 0, 4, True).double()
    found = field(points, torch.rand(POINTS, 3, dtype=torch.float64), None)
    assert found.blend is None
    return [found.density, found.rgb, found.logits]


def flow(points: torch.Tensor) -> list[torch.Tensor]:
    network = FlowNetwork(FrequencyEncoding(4, 2, normalize=True), 8, 3, 2).double()
    return [network.advect(points, 1, -1, Timeline(5), torch.rand(3, dtype=torch.float64))]


@pytest.mark.parametrize("query", [dynamic, static, flow])
@pytest.mark.parametrize("size", [1, 7, 25])
def test_parts_give_the_values_and_gradients_of_the_whole(monkeypatch, query, size):
    points = torch.rand(POINTS, 3, dtype=torch.float64, requires_grad=True)

    def values(part: int) -> list[torch.Tensor]:
        monkeypatch.setattr(FrequencyEncoding, "part_points", part)
        torch.manual_seed(0)
        found = query(points)
        return found + list(torch.autograd.grad(sum(value.square().sum() for value in found), points))

    for whole, parts in zip(values(1000), values(size), strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-12, rtol=1e-12)


def test_no_part_is_larger_than_asked_and_none_is_lost():
    seen = []
    found = chunks.in_parts(10, lambda x, y: seen.append((len(x), y)) or 2 * x, torch.arange(24), None)
    assert seen == [(10, None), (10, None), (4, None)] and torch.equal(found, 2 * torch.arange(24))


@pytest.mark.parametrize("size, expected", [(1, [1] * 7), (5, [2, 2, 2, 1]), (6, [3, 3, 1]), (14, [7]), (100, [7])])
def test_parts_of_a_track_are_whole_rays(size, expected):
    points = torch.arange(42.0).view(14, 3)  # seven rays of two points
    found = chunks.rays_in_parts(size, [FlowTrack(2, {-1: points - 1, 0: points})], [7])
    parts = [piece for (piece,) in found]
    assert [rays for _, rays in parts] == expected and all(len(part.positions[0]) == 2 * rays for part, rays in parts)
    assert all(part.frame == 2 and list(part.positions) == [-1, 0] for part, _ in parts)
    for offset, whole in ((-1, points - 1), (0, points)):
        assert torch.equal(torch.cat([part.positions[offset] for part, _ in parts]), whole)


@pytest.mark.parametrize("size, expected", [
    (14, [[(2, 7)], [(1, 4)]]),  # the second track does not fit into what the first has left
    (22, [[(2, 7), (1, 4)]]),
    (8, [[(2, 4)], [(2, 3)], [(1, 4)]]),
    (12, [[(2, 6)], [(2, 1), (1, 4)]]),  # the rest of the first track beside the second
])
def test_parts_hold_rays_of_several_tracks_in_their_order(size, expected):
    tracks = [FlowTrack(2, {0: torch.rand(14, 3)}), FlowTrack(1, {0: torch.rand(8, 3)})]  # of two points a ray
    parts = chunks.rays_in_parts(size, tracks, [7, 4])
    assert [[(track.frame, rays) for track, rays in part] for part in parts] == expected
    found = torch.cat([track.positions[0] for part in parts for track, _ in part])
    assert torch.equal(found, torch.cat([track.positions[0] for track in tracks]))


def test_tracks_without_rays_are_parts_of_none():
    """A rank may have no moving ray."""
    tracks = [FlowTrack(2, {0: torch.rand(0, 3)}), FlowTrack(1, {0: torch.rand(0, 3)})]
    (part,) = chunks.rays_in_parts(5, tracks, [0, 0])
    assert [rays for _, rays in part] == [0, 0]
