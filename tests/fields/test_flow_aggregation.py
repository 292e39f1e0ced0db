"""Features along a track: they lie on the same surface point, and nothing that is masked has influence."""

from dataclasses import dataclass, replace

import pytest
import torch

from semflow.fields.aggregation import (
    FlowAggregator,
    FlowAttentionAggregator,
    FrameMap,
    MeanAggregator,
    PointAggregator,
)
from semflow.fields.track_scene import CUE_CHANNELS, CUE_SCALES, SurfaceCues, TrackScene, locate, surface_cues
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import make_space
from semflow.records import FlowTrack
from tiny_scene import HEIGHT, WIDTH, tiny_cameras

FRAMES, CHANNELS, TRUNK = 4, 5, 3


@pytest.fixture
def scene() -> TrackScene:
    """Four cameras in float64; the cues are random."""
    found = tiny_cameras(FRAMES)
    cameras = replace(found, c2w=found.c2w.double())
    surface = torch.rand(FRAMES, HEIGHT, WIDTH, dtype=torch.float64)
    return TrackScene(
        cameras, make_space("ndc", cameras, clip_to_bounds=False), SurfaceCues(surface, (surface > 0.5).double())
    )


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def random_maps(channels: int = CHANNELS) -> torch.Tensor:
    return torch.rand(FRAMES, 6, 8, channels, dtype=torch.float64)


def visible_points(scene: TrackScene, frame: int, count: int = 9) -> torch.Tensor:
    """(N, 3) field-space points in the middle of the images."""
    uv = torch.tensor([5.0, 4.0]) + torch.rand(count, 2, dtype=torch.float64) * torch.tensor([6.0, 4.0])
    world = scene.cameras.lift(uv, 2.0 + torch.rand(count, dtype=torch.float64), frame)
    return scene.space.from_world(world)


def random_track(scene: TrackScene, frame: int, reach: int = 1, count: int = 9) -> FlowTrack:
    """A track with small steps; neighbours outside the scene are absent."""
    points = visible_points(scene, frame, count)
    offsets = [o for o in range(-reach, reach + 1) if 0 <= frame + o < FRAMES]
    return FlowTrack(frame, {o: points + 0.02 * o * torch.randn_like(points) if o else points for o in offsets})


def attention(length=3, cues=False, gradient=True, displacement=True, ray_attention=False, channels=CHANNELS):
    return FlowAttentionAggregator(
        channels, TRUNK, length, cues, gradient, 4, 2, 2, displacement, ray_attention
    ).double()


def every_aggregator(cues=False, gradient=True, channels=CHANNELS) -> list[FlowAggregator]:
    return [
        PointAggregator(channels, TRUNK, cues, gradient).double(),
        MeanAggregator(channels, TRUNK, 3, cues, gradient).double(),
        attention(cues=cues, gradient=gradient, channels=channels),
    ]


def run(aggregator: FlowAggregator, track: FlowTrack, maps: torch.Tensor, scene: TrackScene, rays: int = 3):
    """Features of a track whose frames' maps are `maps` (T, h, w, C)."""
    return aggregator([track], dict(enumerate(map(FrameMap, maps))), scene, rays)


@dataclass(frozen=True)
class MovingPlane:
    """A textured plane at world depth 3 that slides and turns in itself; its texture is its own coordinate system."""

    cameras: Cameras

    def pose(self, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(2, 2) rotation and (2,) shift of the plane's coordinates in the world's x and y."""
        angle = torch.tensor(0.06 * frame, dtype=torch.float64)
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        return turn, torch.tensor([0.09 * frame, -0.05 * frame], dtype=torch.float64)

    def world(self, texture: torch.Tensor, frame: int) -> torch.Tensor:
        """World points (N, 3) of texture coordinates (N, 2)."""
        turn, shift = self.pose(frame)
        return torch.cat([texture @ turn.T + shift, torch.full_like(texture[:, :1], -3.0)], dim=1)

    def seen(self, frame: int, uv: torch.Tensor) -> torch.Tensor:
        """Texture coordinates (N, 2) that camera `frame` sees at pixels uv (N, 2)."""
        directions, centre = self.cameras.directions(frame, uv), self.cameras.center(frame)
        hit = centre + ((-3.0 - centre[2]) / directions[:, 2])[:, None] * directions
        turn, shift = self.pose(frame)
        return (hit[:, :2] - shift) @ turn

    def maps(self) -> torch.Tensor:
        """(T, H, W, 2): the texture coordinates as an image per frame."""
        pixels = self.cameras.pixels().flatten(0, 1).double()
        return torch.stack([self.seen(frame, pixels) for frame in range(FRAMES)]).view(FRAMES, HEIGHT, WIDTH, 2)


class NoConversion:
    """A space that hands NDC points to the camera as they are: mistake 2 of the published code."""

    def to_world(self, points):
        return points


def same_place(aggregator: FlowAggregator) -> FlowAggregator:
    """The aggregator with maps that reach trunk and neighbours unchanged."""
    with torch.no_grad():
        aggregator.from_map.weight.copy_(torch.eye(2).repeat(2, 1))
        aggregator.from_map.bias.zero_()
    return aggregator


@pytest.mark.parametrize("frame, offset", [(0, 1), (1, -1), (1, 1), (2, -1), (2, 1), (3, -1)])
def test_features_along_a_true_flow_land_on_the_same_surface_point(scene, frame, offset):
    """Right to parts of a pixel; the same track taken for world points, or without its motion, reads somewhere else."""
    plane = MovingPlane(scene.cameras)
    texture = (torch.rand(30, 2, dtype=torch.float64) - 0.5) * 0.6
    track = FlowTrack(frame, {o: scene.space.from_world(plane.world(texture, frame + o)) for o in (0, offset)})
    aggregator = same_place(MeanAggregator(2, 2, 3, cues=False, gradient=True).double())
    found = run(aggregator, track, plane.maps(), scene)
    pixel = 3.0 / scene.cameras.focal  # of the plane, in texture units
    assert (found.current - texture).abs().max() < 0.02 * pixel
    assert (found.neighbours - texture).abs().max() < 0.02 * pixel
    wrong = run(aggregator, track, plane.maps(), replace(scene, space=NoConversion()))
    assert (wrong.neighbours - texture).abs().max() > pixel
    still = FlowTrack(frame, {0: track.positions[0], offset: track.positions[0]})
    assert (run(aggregator, still, plane.maps(), scene).neighbours - texture).abs().max() > 0.3 * pixel


def test_every_position_is_seen_by_the_camera_of_its_own_frame(scene):
    track = random_track(scene, 2)
    points = torch.stack(list(track.positions.values()))
    uv, visible = locate(points, scene.part(slice(1, 4)))
    assert visible.all()
    for row, offset in enumerate(track.positions):
        expected, _ = scene.cameras.project(scene.space.to_world(points[row]), 2 + offset)
        torch.testing.assert_close(uv[row], expected)


@pytest.mark.parametrize("cues", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_projecting_maps_first_equals_reading_first(scene, monkeypatch, kind, gradient, cues):
    aggregator = every_aggregator(cues, gradient)[kind]
    track, maps = random_track(scene, 1), random_maps()
    found = []
    for first in (True, False):
        monkeypatch.setattr(FlowAggregator, "project_first", property(lambda self, first=first: first))
        found.append(run(aggregator, track, maps, scene))
        prepared = {frame: aggregator.prepare(cells) for frame, cells in enumerate(maps)}
        assert (prepared[0].own is not None) == first and (prepared[0].other is not None) == (first and kind > 0)
        found.append(aggregator([track], prepared, scene, 3))
    for name in ("current", "neighbours", "motion"):
        one, *others = (getattr(features, name) for features in found)
        for other in others:
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_wide_maps_are_projected_first_and_narrow_ones_read_first():
    assert MeanAggregator(2 * TRUNK + 1, TRUNK, 3, False, True).project_first
    assert not MeanAggregator(2 * TRUNK, TRUNK, 3, False, True).project_first


def test_aggregators_share_one_signature(scene):
    track, maps = random_track(scene, 1), random_maps()
    for aggregator, neighbours, width in zip(every_aggregator(), (False, True, True), (0, 0, 12)):
        found = run(aggregator, track, maps, scene)
        assert found.current.shape == (9, TRUNK) and aggregator.use_neighbours == neighbours
        assert (found.neighbours is not None) == neighbours and aggregator.out_channels == width
        assert (found.motion is None) if not width else found.motion.shape == (9, width)


def test_without_an_encoder_nothing_is_read(scene):
    aggregator = PointAggregator(0, TRUNK, cues=True, gradient=True)
    found = aggregator([random_track(scene, 1)], {}, scene, 3)
    assert found.current is found.neighbours is found.motion is None and not list(aggregator.parameters())


def test_point_features_do_not_depend_on_the_flow(scene):
    track, maps = random_track(scene, 1), random_maps()
    aggregator = every_aggregator(cues=True)[0]
    moved = FlowTrack(1, {o: p + (0.3 if o else 0.0) for o, p in track.positions.items()})
    first, second = run(aggregator, track, maps, scene), run(aggregator, moved, maps, scene)
    torch.testing.assert_close(first.current, second.current, atol=0, rtol=0)
    assert aggregator.reach == 0


def test_mean_features_by_hand(scene):
    track, maps = random_track(scene, 1), random_maps()
    aggregator = every_aggregator()[1]
    per_frame = []
    for offset in (-1, 1):
        alone = FlowTrack(1, {0: track.positions[0], offset: track.positions[offset]})
        per_frame.append(run(aggregator, alone, maps, scene).neighbours)
    torch.testing.assert_close(run(aggregator, track, maps, scene).neighbours, (per_frame[0] + per_frame[1]) / 2)


@pytest.mark.parametrize("channels", [CHANNELS, 24])
@pytest.mark.parametrize("cues", [False, True])
@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_tracks_of_several_frames_at_once_are_those_one_by_one(scene, kind, cues, channels):
    """Also where one of them ends with the scene and the other does not."""
    kinds = [*every_aggregator(cues, channels=channels), attention(cues=cues, channels=channels, ray_attention=True)]
    aggregator, maps = kinds[kind], random_maps(channels)
    tracks = [random_track(scene, frame, count=3 * rays) for frame, rays in ((1, 3), (0, 1), (3, 2))]
    together = aggregator(tracks, dict(enumerate(map(FrameMap, maps))), scene, 6)
    alone = [run(aggregator, track, maps, scene, rays) for track, rays in zip(tracks, (3, 1, 2))]
    for name in ("current", "neighbours", "motion"):
        if getattr(together, name) is not None:
            torch.testing.assert_close(getattr(together, name), torch.cat([getattr(one, name) for one in alone]))


@pytest.mark.parametrize("frame, absent", [(0, -1), (FRAMES - 1, 1)])
@pytest.mark.parametrize("kind", [1, 2])
def test_the_ends_of_a_scene(scene, frame, absent, kind):
    """A missing neighbour counts neither in the mean nor in the attention; its tokens read as zero."""
    aggregator = every_aggregator()[kind]
    track, maps = random_track(scene, frame), random_maps()
    assert absent not in track.positions
    found = run(aggregator, track, maps, scene)
    unread = [f for f in range(FRAMES) if f - frame not in track.positions]
    maps[unread] = 1e3
    again = run(aggregator, track, maps, scene)
    torch.testing.assert_close(again.neighbours, found.neighbours)
    assert found.neighbours.abs().sum() > 0
    if kind == 2:
        torch.testing.assert_close(again.motion, found.motion)
        tokens = found.motion.view(9, 3, 4).abs().sum(dim=(0, 2))
        assert (tokens == 0).tolist() == [absent == -1, False, absent == 1]


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("where", ["behind", "outside"])
def test_invisible_neighbours_have_no_influence(scene, kind, where):
    aggregator = every_aggregator(cues=True)[kind]
    hidden = torch.tensor([True, False, True, False, False, False, False, False, True])
    world = {"behind": torch.tensor([0.1, 0.1, 2.0]), "outside": torch.tensor([40.0, 0.0, -3.0])}[where].double()

    class World:  # points are world points: NDC has no place for what lies behind the camera
        def to_world(self, points):
            return points

        def ray_parameter(self, points, cameras, frame):
            return cameras.depth(points, frame) / 4

    plain = replace(scene, space=World())
    world_track = random_track(scene, 1)
    positions = {o: scene.space.to_world(p) for o, p in world_track.positions.items()}
    positions[1] = torch.where(hidden[:, None], world, positions[1])
    assert locate(positions[1][None], plain.part(slice(2, 3)))[1].tolist() == [(~hidden).tolist()]
    maps = random_maps()
    found = run(aggregator, FlowTrack(1, positions), maps, plain)
    without = run(aggregator, FlowTrack(1, {o: positions[o] for o in (-1, 0)}), maps, plain)
    for name in ("current", "neighbours", "motion"):
        if getattr(found, name) is not None:
            torch.testing.assert_close(getattr(found, name)[hidden], getattr(without, name)[hidden])
            assert torch.isfinite(getattr(found, name)).all()


@pytest.mark.parametrize("cues", [False, True])
@pytest.mark.parametrize("channels", [CHANNELS, 24])
def test_a_point_that_no_camera_sees_gives_zeros_without_nan(scene, channels, cues):
    aggregator = attention(cues=cues, channels=channels)
    assert aggregator.project_first == (channels == 24)
    world = torch.tensor([[40.0, 0.0, -3.0]], dtype=torch.float64).repeat(3, 1)
    track = FlowTrack(1, {o: scene.space.from_world(world).requires_grad_() for o in (-1, 0, 1)})
    found = run(aggregator, track, random_maps(channels), scene)
    for values in (found.current, found.neighbours, found.motion):
        assert torch.equal(values, torch.zeros_like(values))
    (found.current.sum() + found.motion.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in aggregator.parameters() if p.grad is not None)


def test_displacements_are_taken_in_field_space(scene, monkeypatch):
    """The tokens carry x_{t+o} - x_t in the one field space, and the offset: mistake 4 of the published code."""
    aggregator, seen = attention(length=5), []
    encode = aggregator.displacement.forward
    monkeypatch.setattr(aggregator.displacement, "forward", lambda x: seen.append(x) or encode(x))
    track = random_track(scene, 1, reach=2)
    run(aggregator, track, random_maps(), scene)
    assert list(track.positions) == [-1, 0, 1, 2]
    (codes,) = seen
    for (offset, points), code in zip(track.positions.items(), codes.split([9, 1, 9, 9]), strict=True):
        torch.testing.assert_close(code[:, :3].expand_as(points), points - track.positions[0])
        torch.testing.assert_close(code[:, 3].expand(9), torch.full((9,), float(offset), dtype=torch.float64))


def test_the_displacement_code_is_an_option_that_matters(scene):
    """With equal maps everywhere only the displacement tells two tracks apart."""
    flat = torch.ones(FRAMES, 6, 8, CHANNELS, dtype=torch.float64)
    track = random_track(scene, 1)
    still = FlowTrack(1, {o: track.positions[0] for o in track.positions})
    for displacement in (True, False):
        aggregator = attention(displacement=displacement)
        first, second = (run(aggregator, t, flat, scene).motion for t in (track, still))
        assert torch.allclose(first, second, atol=1e-5) == (not displacement)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_lengths_of_the_track(scene, length):
    aggregator = attention(length=length)
    found = run(aggregator, random_track(scene, 1, reach=2), random_maps(), scene)
    assert found.motion.shape == (9, length * 4) and aggregator.reach == length // 2
    assert (found.neighbours is not None) == (length > 1)


@pytest.mark.parametrize("gradient", [True, False])
def test_gradients_of_the_places_are_an_option(scene, gradient):
    for aggregator in every_aggregator(gradient=gradient)[1:]:
        track = random_track(scene, 1)
        track.positions[1].requires_grad_()
        run(aggregator, track, random_maps(), scene).neighbours.sum().backward()
        assert (track.positions[1].grad is not None and track.positions[1].grad.abs().sum() > 0) == gradient


@pytest.mark.parametrize("gradient", [True, False])
def test_gradients_reach_every_parameter_and_trained_maps(scene, gradient):
    for aggregator in every_aggregator(cues=True, gradient=gradient):
        maps = random_maps().requires_grad_()
        found = run(aggregator, random_track(scene, 1), maps, scene)
        sum(value.square().sum() for value in vars(found).values() if value is not None).backward()
        assert maps.grad.abs().sum() > 0
        for name, parameter in aggregator.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_attention_along_the_ray_keeps_rays_apart(scene):
    aggregator = attention(ray_attention=True)
    track, maps = random_track(scene, 1), random_maps()
    found = run(aggregator, track, maps, scene, rays=3).motion
    moved = {o: p.clone() for o, p in track.positions.items()}
    moved[1][4] += 0.05  # a sample of the second ray
    changed = (run(aggregator, FlowTrack(1, moved), maps, scene, rays=3).motion - found).abs().amax(dim=1).view(
        3, 3
    ) > 1e-9
    assert changed[1].all() and not changed[0].any() and not changed[2].any()


def test_surface_cues_by_hand(scene):
    uv = torch.tensor([[3.2, 4.9], [10.5, 7.1]], dtype=torch.float64)
    surface = scene.cues.surface_u[2][[4, 7], [3, 10]]
    moving = scene.cues.motion[2][[4, 7], [3, 10]]
    distance = torch.tensor([0.01, -0.2], dtype=torch.float64)
    points = torch.zeros(2, 3, dtype=torch.float64)
    points[:, 2] = 2 * (surface + distance) - 1  # u of NDC is linear in z
    near = torch.exp(-((distance / CUE_SCALES[0]) ** 2))
    expected = torch.stack(
        [torch.tanh(distance / CUE_SCALES[0]), torch.tanh(distance / CUE_SCALES[1]), near, moving, near * moving], dim=1
    )
    (found,) = surface_cues(scene.part(slice(2, 3)), points[None], uv[None])
    assert found.shape == (2, CUE_CHANNELS)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["ndc", "metric"])
def test_surface_cues_of_several_frames_are_those_of_each_alone(scene, kind):
    space = make_space(kind, scene.cameras, clip_to_bounds=False)
    scene = replace(scene, space=space)
    world = scene.cameras.lift(torch.rand(9, 2, dtype=torch.float64) * 8 + 4, 2.0 + torch.rand(9, dtype=torch.float64), 2)
    points = space.from_world(world).expand(3, -1, -1) + 0.01 * torch.randn(3, 9, 3, dtype=torch.float64)
    uv = torch.rand(3, 9, 2, dtype=torch.float64) * torch.tensor([float(WIDTH), float(HEIGHT)])
    together = surface_cues(scene.part(slice(1, 4)), points, uv)
    for row in range(3):
        (alone,) = surface_cues(scene.part(slice(1 + row, 2 + row)), points[row : row + 1], uv[row : row + 1])
        torch.testing.assert_close(together[row], alone)
        if kind == "metric":
            depth = scene.cameras.depth(space.to_world(points[row]), 1 + row)
            y, x = uv[row, :, 1].long(), uv[row, :, 0].long()
            distance = (depth - space.near) / (space.far - space.near) - scene.cues.surface_u[1 + row, y, x]
            torch.testing.assert_close(together[row, :, 1], torch.tanh(distance / CUE_SCALES[1]))
