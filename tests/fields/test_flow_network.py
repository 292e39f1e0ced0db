"""The flow network: its Euler integral against closed forms, its tracks at the ends of a scene, what it sees."""

import math

import pytest
import torch

from semflow.encoders.positional import FrequencyEncoding
from semflow.fields.flow import FlowNetwork, Timeline, normalised_time

FRAMES = Timeline(6)


def network(substeps: int = 2, code_channels: int = 3) -> FlowNetwork:
    torch.manual_seed(0)
    return FlowNetwork(FrequencyEncoding(4, 2, normalize=True), 8, code_channels, substeps).double()


def driven_by(monkeypatch, velocity, substeps: int) -> FlowNetwork:
    """A flow network whose velocity is `velocity(points, time)`."""
    flow = network(substeps)
    monkeypatch.setattr(flow, "velocities", lambda places, *rest: [velocity(points, time) for points, time in places])
    return flow


def some_points(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5


def code() -> torch.Tensor:
    return torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("substeps", [1, 2, 5])
@pytest.mark.parametrize("offset", [1, -1, 2, 0.3, -0.6, 1.5, 0])
def test_a_constant_velocity_is_integrated_exactly(monkeypatch, substeps, offset):
    velocity = torch.tensor([0.1, -0.2, 0.05], dtype=torch.float64)
    flow = driven_by(monkeypatch, lambda points, time: velocity.expand_as(points), substeps)
    moved = flow.advect(some_points(), 2, offset, FRAMES, code())
    torch.testing.assert_close(moved, some_points() + offset * velocity)


@pytest.mark.parametrize("substeps", [1, 2, 5])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_linear_velocity_gives_the_euler_product(monkeypatch, substeps, direction):
    flow = driven_by(monkeypatch, lambda points, time: 0.4 * points, substeps)
    for steps in (1, 2):
        moved = flow.advect(some_points(), 2, direction * steps, FRAMES, code())
        factor = (1 + direction * 0.4 / substeps) ** (substeps * steps)
        torch.testing.assert_close(moved, some_points() * factor)


@pytest.mark.parametrize("direction", [1, -1])
def test_sub_steps_see_their_own_time(monkeypatch, direction):
    seen = []

    def velocity(points, time):
        seen.append(time)
        return torch.full_like(points, time)

    flow = driven_by(monkeypatch, velocity, 4)
    moved = flow.advect(some_points(), 3, direction, FRAMES, code())
    assert seen == pytest.approx([3 + direction * k / 4 for k in range(4)])
    torch.testing.assert_close(moved, some_points() + direction * sum(seen) / 4)


@pytest.mark.parametrize("offset", [0.25, 1.0, 1.0 - 1e-12, 1.001, 2.001, -2.5, -3])
def test_no_sub_step_is_longer_than_a_frame_over_k(monkeypatch, offset):
    times = []
    flow = driven_by(monkeypatch, lambda points, time: times.append(time) or torch.zeros_like(points), 2)
    flow.advect(some_points(), 3, offset, FRAMES, code())
    assert len(times) == 2 * math.ceil(abs(offset))
    assert all(abs(a - b) <= 0.5 + 1e-9 for a, b in zip(times, [*times[1:], 3 + offset]))


def test_the_integral_converges_to_the_exponential(monkeypatch):
    errors = []
    for substeps in (8, 16, 32):
        flow = driven_by(monkeypatch, lambda points, time: 0.5 * points, substeps)
        errors.append((flow.advect(some_points(), 1, 1.5, FRAMES, code()) - some_points() * math.exp(0.75)).abs().max())
    assert 1.8 < errors[0] / errors[1] < 2.2 and 1.8 < errors[1] / errors[2] < 2.2


@pytest.mark.parametrize("distance", [1, 0.4, 2])
def test_there_and_back_converges_to_the_start(monkeypatch, distance):
    errors = []
    for substeps in (4, 8, 16):
        flow = driven_by(monkeypatch, lambda points, time: 0.3 * torch.sin(2 * points.roll(1, 1) + time), substeps)
        there = flow.advect(some_points(), 2, distance, FRAMES, code())
        back = flow.advect(there, 2 + distance, -distance, FRAMES, code())
        errors.append((back - some_points()).norm())
    assert 1.6 < errors[0] / errors[1] < 2.4 and 1.6 < errors[1] / errors[2] < 2.4


def test_backward_is_not_derived_from_forward(monkeypatch):
    """Each direction starts at the point itself, whatever was asked before: mistake 3 of the published code."""
    flow = network()
    points = some_points()
    forward_first = [flow.advect(points, 2, offset, FRAMES, code()) for offset in (1, -1)]
    backward_first = [flow.advect(points, 2, offset, FRAMES, code()) for offset in (-1, 1)]
    track = flow.track(points, 2, 3, FRAMES, code())
    for found in (track.positions[1], backward_first[1]):
        torch.testing.assert_close(found, forward_first[0])
    for found in (track.positions[-1], backward_first[0]):
        torch.testing.assert_close(found, forward_first[1])
    starts = {}
    integrate = flow.integrate

    def watched(ways, *rest):
        starts.update({(way.time, way.offset): way.points for way in ways})
        return integrate(ways, *rest)

    monkeypatch.setattr(flow, "integrate", watched)
    track = flow.track(points, 2, 5, FRAMES, code())
    for start, offset in (((2, 1), 0), ((2, -1), 0), ((3, 1), 1), ((1, -1), -1)):
        torch.testing.assert_close(starts[start], track.positions[offset], atol=0, rtol=0)
    assert set(starts) == {(2, 1), (2, -1), (3, 1), (1, -1)}


@pytest.mark.parametrize("length", [1, 3, 5])
def test_tracks_of_several_frames_at_once_are_those_one_by_one(length):
    flow, starts = network(), [(some_points(count), frame) for count, frame in ((5, 2), (3, 0), (0, 1), (4, 5))]
    together = flow.tracks(starts, length, FRAMES, code())
    for (points, frame), found in zip(starts, together, strict=True):
        alone = flow.track(points, frame, length, FRAMES, code())
        assert found.frame == frame and list(found.positions) == list(alone.positions)
        for offset, moved in alone.positions.items():
            torch.testing.assert_close(found.positions[offset], moved)


@pytest.mark.parametrize("offset", [-1, 1])
def test_both_directions_see_the_clip_code(offset):
    """Mistake 3 of the published code: only one direction saw the clip code."""
    flow, clip = network(), code().requires_grad_()
    flow.track(some_points(), 2, 3, FRAMES, clip).positions[offset].square().sum().backward()
    assert (clip.grad.abs() > 0).all()
    with torch.no_grad():
        ways = [flow.track(some_points(), 2, 3, FRAMES, c).displacement(offset) for c in (code(), -code())]
    assert not torch.allclose(*ways, atol=1e-6)


@pytest.mark.parametrize(
    "length, frame, frames, offsets",
    [
        (1, 2, 6, [0]),
        (3, 2, 6, [-1, 0, 1]),
        (5, 2, 6, [-2, -1, 0, 1, 2]),
        (3, 0, 6, [0, 1]),
        (5, 0, 6, [0, 1, 2]),
        (3, 5, 6, [-1, 0]),
        (5, 5, 6, [-2, -1, 0]),
        (5, 1, 6, [-1, 0, 1, 2]),
        (3, 2, 3, [-1, 0]),
        (3, 0, 1, [0]),
    ],
)
def test_tracks_end_with_their_scene(monkeypatch, length, frame, frames, offsets):
    times = []
    flow = driven_by(monkeypatch, lambda points, time: times.append(time) or torch.ones_like(points), 2)
    track = flow.track(some_points(), frame, length, Timeline(frames), code())
    assert list(track.positions) == offsets and track.frame == frame
    assert all(0 <= time <= frames - 1 for time in times)
    for offset in offsets:
        torch.testing.assert_close(track.displacement(offset), torch.full((5, 3), float(offset), dtype=torch.float64))


@pytest.mark.parametrize("frames", [3, 6])
def test_the_encoding_sees_the_normalised_time_and_the_scene(monkeypatch, frames):
    flow, seen = network(), []
    encode = flow.encoding.forward
    monkeypatch.setattr(flow.encoding, "forward", lambda x, scene: seen.append((x[:, 3], scene)) or encode(x, scene))
    flow.track(some_points(), 1, 3, Timeline(frames), code(), scene=4)
    expected = [[1.0], [0.5, 1.5]]  # both directions share the first sub-step; then the second one back, and forward
    for (time, scene), taus in zip(seen, expected, strict=True):
        assert scene == 4
        for found, tau in zip(time.split(5), taus, strict=True):
            torch.testing.assert_close(found, torch.full((5,), 2 * tau / frames - 1, dtype=torch.float64))
            assert normalised_time(tau, frames) == pytest.approx(2 * tau / frames - 1)


def test_a_scene_starts_at_rest_and_velocities_are_bounded():
    flow = network()
    slow = flow.velocity(some_points(), 1.0, FRAMES, code())
    assert 0 < slow.abs().max() < 0.05
    with torch.no_grad():
        flow.last.weight.mul_(1e6)
    fast = flow.velocity(some_points(), 1.0, FRAMES, code())
    assert 0.99 < fast.abs().max() <= 1.0


def test_no_code_and_gradients_of_every_parameter():
    flow = network(code_channels=0)
    for block in flow.blocks:
        torch.nn.init.normal_(block.block.second.weight)
    flow.advect(some_points(), 1, 1, FRAMES, torch.zeros(0)).square().sum().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_gradients_agree_with_finite_differences():
    flow = network()
    points, clip = some_points(2).requires_grad_(), code().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, c: flow.track(p, 2, 3, FRAMES, c).positions[-1], (points, clip), fast_mode=True
    )
