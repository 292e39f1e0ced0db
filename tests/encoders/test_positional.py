"""Encodings against closed forms: frequencies by a naive loop, planes at their nodes and between them."""

import math

import pytest
import torch

from semflow.encoders import positional
from semflow.encoders.positional import FrequencyEncoding, PlaneEncoding, SceneCodeEncoding, SquaredSteps
from semflow.fields.flow import normalised_time
from semflow.models.scene_context import SceneShape
from semflow.models.semantic_flow import plane_boxes

BOX = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 3.0, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("channels, octaves, width", [(4, 10, 84), (3, 10, 63), (3, 4, 27)])
def test_published_widths(channels, octaves, width):
    encoding = FrequencyEncoding(channels, octaves)
    assert encoding.out_channels == width
    assert encoding(torch.zeros(5, channels)).shape == (5, width)


def test_frequencies_by_a_naive_loop():
    encoding = FrequencyEncoding(2, 3).double()
    points = torch.tensor([[0.3, -0.7], [1.0, 0.0]], dtype=torch.float64)
    for row, (x, y) in zip(encoding(points).tolist(), points.tolist()):
        angles = [math.pi * 2**octave * value for value in (x, y) for octave in range(3)]
        expected = [x, y, *map(math.sin, angles), *map(math.cos, angles)]
        assert row == pytest.approx(expected, abs=1e-6)


def test_normalised_codes_have_unit_length_and_the_same_direction():
    points = torch.rand(7, 4)
    plain, unit = FrequencyEncoding(4, 10)(points), FrequencyEncoding(4, 10, normalize=True)(points)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(7))
    torch.testing.assert_close(unit * plain.norm(dim=-1, keepdim=True), plain, atol=1e-5, rtol=0)


def random_planes(boxes: torch.Tensor, levels=(4,), time_steps=()) -> PlaneEncoding:
    """Planes of random values, in float64."""
    encoding = PlaneEncoding(boxes, 2, levels, time_steps).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoding.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
    return encoding


def node(x: int, y: int, z: int, resolution: int = 4, box: torch.Tensor = BOX) -> torch.Tensor:
    """(3,) coordinates of a grid node."""
    share = torch.tensor([x, y, z], dtype=torch.float64) / (resolution - 1)
    return box[0] + share * (box[1] - box[0])


@pytest.mark.parametrize("x, y, z", [(0, 0, 0), (3, 3, 3), (1, 2, 0), (3, 0, 2)])
def test_space_planes_are_exact_at_nodes(x, y, z):
    encoding = random_planes(BOX[None])
    xy, xz, yz = encoding.space[0]
    torch.testing.assert_close(encoding(node(x, y, z)[None])[0], xy[:, y, x] * xz[:, z, x] * yz[:, z, y])


@pytest.mark.parametrize("frames", [2, 3, 5, 12])
def test_time_rows_hit_frames_exactly(frames):
    boxes, steps = plane_boxes([SceneShape(frames, BOX)], with_time=True)
    encoding = random_planes(boxes.double(), time_steps=steps)
    space = random_planes(BOX[None])
    with torch.no_grad():
        space.space[0].copy_(encoding.space[0])
    xt, yt, zt = encoding.time[0]
    for frame in range(frames):
        time = torch.tensor([normalised_time(frame, frames)], dtype=torch.float64)
        found = encoding(torch.cat([node(1, 2, 3), time])[None])[0]
        expected = space(node(1, 2, 3)[None])[0] * xt[:, frame, 1] * yt[:, frame, 2] * zt[:, frame, 3]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_half_way_between_frames_reads_the_mean():
    boxes, steps = plane_boxes([SceneShape(3, BOX)], with_time=True)
    encoding = random_planes(boxes.double(), time_steps=steps)
    with torch.no_grad():
        encoding.time[0][1:] = 1.0
    first, middle, second = (
        encoding(torch.cat([node(1, 1, 1), torch.tensor([normalised_time(time, 3)])])[None]) for time in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(middle, (first + second) / 2, atol=1e-6, rtol=0)


def test_between_nodes_one_axis_is_linear_and_outside_reads_the_border():
    encoding = random_planes(BOX[None])
    with torch.no_grad():
        encoding.space[0][1:] = 1.0  # only the (x, y) plane speaks
    ends = encoding(torch.stack([node(1, 2, 0), node(2, 2, 0)]))
    between = encoding(torch.lerp(node(1, 2, 0), node(2, 2, 0), 0.3)[None])
    torch.testing.assert_close(between[0], torch.lerp(ends[0], ends[1], 0.3))
    outside = BOX[1] + torch.tensor([9.0, 0.0, 0.0])
    torch.testing.assert_close(encoding(outside[None]), encoding(BOX[1][None]))


def test_levels_are_concatenated():
    encoding = random_planes(BOX[None], levels=(4, 3))
    point = node(0, 0, 3)[None]
    assert encoding.out_channels == 4
    for level, part in enumerate(encoding(point)[0].split(2)):
        last = encoding.space[level].shape[-1] - 1
        xy, xz, yz = encoding.space[level]
        torch.testing.assert_close(part, xy[:, 0, 0] * xz[:, last, 0] * yz[:, last, 0])


def test_every_scene_has_its_own_planes_and_box():
    boxes, steps = plane_boxes([SceneShape(3, BOX), SceneShape(5, 2 * BOX)], with_time=True)
    encoding = random_planes(boxes.double(), (4, 3), steps)
    encoding(torch.rand(6, 4, dtype=torch.float64), 1).sum().backward()
    used = [parameter.grad is not None for parameter in (*encoding.space, *encoding.time)]
    assert used == [False, False, True, True] * 2
    assert [plane.shape[2] for plane in encoding.time] == [3, 3, 5, 5]
    xy, xz, yz = encoding.space[2]
    last = torch.cat([2 * BOX[1], torch.tensor([normalised_time(4, 5)])])
    expected = xy[:, -1, -1] * xz[:, -1, -1] * yz[:, -1, -1] * encoding.time[2][:, :, -1, -1].prod(dim=0)
    torch.testing.assert_close(encoding(last[None].double(), 1)[0, :2], expected, atol=1e-6, rtol=0)


def test_a_scene_starts_static():
    boxes, steps = plane_boxes([SceneShape(4, BOX)], with_time=True)
    encoding = PlaneEncoding(boxes.float(), 3, (5,), steps)
    points = torch.rand(6, 3)
    codes = [encoding(torch.cat([points, torch.full((6, 1), t)], dim=1)) for t in (-1.0, 0.1, 0.4)]
    torch.testing.assert_close(codes[0], codes[1])
    torch.testing.assert_close(codes[0], codes[2])


def test_gradients_agree_with_finite_differences():
    boxes, steps = plane_boxes([SceneShape(3, BOX)], with_time=True)
    encoding = random_planes(boxes.double(), (3,), steps)
    points = torch.rand(4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, s, t: torch.func.functional_call(encoding, {"space.0": s, "time.0": t}, (p,)),
        (points, encoding.space[0], encoding.time[0]),
    )


def test_variation_of_ramps():
    boxes, steps = plane_boxes([SceneShape(4, BOX)], with_time=True)
    encoding = PlaneEncoding(boxes, 2, (5,), steps)
    with torch.no_grad():
        encoding.space[0].copy_(0.3 * torch.arange(5.0).expand(3, 2, 5, 5))  # slope 0.3 along the columns alone
        encoding.time[0].copy_(0.2 * torch.arange(5.0).expand(3, 2, 4, 5))
    assert encoding.variation(0).item() == pytest.approx((0.3**2 + 0.0 + 0.2**2) / 3)
    with torch.no_grad():
        encoding.space[0].copy_(encoding.space[0].transpose(2, 3).clone())
        encoding.time[0].copy_(torch.arange(4.0)[:, None].expand(3, 2, 4, 5))  # change in time is no variation in space
    assert encoding.variation(0).item() == pytest.approx(0.3**2 / 3)


@pytest.mark.parametrize("axes, channels", [((3, 2), slice(None)), ((3,), slice(1, None, 2))])
def test_squared_steps_know_their_own_derivative(axes, channels):
    planes = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    for axis, total in zip(axes, SquaredSteps.apply(planes, axes, channels)):
        torch.testing.assert_close(total, planes[:, channels].diff(dim=axis).square().sum())
    assert torch.autograd.gradcheck(lambda p: SquaredSteps.apply(p, axes, channels), (planes,))


def test_roughness_is_the_second_difference_in_time():
    boxes, steps = plane_boxes([SceneShape(5, BOX), SceneShape(2, BOX)], with_time=True)
    encoding = PlaneEncoding(boxes, 2, (3,), steps)
    with torch.no_grad():
        encoding.time[0].copy_((0.7 * torch.arange(5.0)[:, None] + 2.0).expand(3, 2, 5, 3))
    assert encoding.time_roughness(0).item() == pytest.approx(0.0, abs=1e-10)
    with torch.no_grad():
        encoding.time[0].copy_((0.25 * torch.arange(5.0)[:, None] ** 2).expand(3, 2, 5, 3))
    assert encoding.time_roughness(0).item() == pytest.approx(0.5**2)
    assert encoding.time_roughness(1).item() == 0.0  # two frames have no second difference
    assert PlaneEncoding(BOX[None], 2, (3,)).time_roughness(0).item() == 0.0


@pytest.mark.parametrize("normalize", [False, True])
def test_the_frequency_code_knows_its_own_derivative(normalize):
    encoding = FrequencyEncoding(3, 4, normalize=normalize).double()
    points = (torch.rand(5, 3, dtype=torch.float64) - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(encoding, (points,))
    if normalize:
        torch.testing.assert_close(encoding(points).norm(dim=-1), torch.ones(5, dtype=torch.float64))


def test_a_scene_code_follows_the_code_of_the_coordinates():
    encoding = SceneCodeEncoding(FrequencyEncoding(3, 2), scenes=2, channels=4)
    points = torch.rand(5, 3)
    for scene in (0, 1):
        coordinates, code = encoding(points, scene).split([15, 4], dim=-1)
        assert torch.equal(coordinates, FrequencyEncoding(3, 2)(points))
        assert torch.equal(code, encoding.codes[scene].expand(5, 4))
    assert encoding.out_channels == 19 and not torch.equal(*encoding.codes)


@pytest.mark.parametrize("copies", [2, 32])
def test_copies_of_planes_give_the_values_and_gradients_of_the_planes_alone(monkeypatch, copies):
    """As a GPU reads them."""
    boxes, steps = plane_boxes([SceneShape(4, BOX)], with_time=True)
    encoding = random_planes(boxes.double(), time_steps=steps)
    coordinates = 2 * torch.rand(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    found = []
    for number in (1, copies):
        monkeypatch.setattr(positional, "gradient_copies", lambda planes, grid: number)
        at = coordinates.clone().requires_grad_()
        code = encoding(at)
        found.append([code, *torch.autograd.grad(code.sin().sum(), [at, *encoding.parameters()])])
    for alone, shared in zip(*found):
        torch.testing.assert_close(shared, alone)


@pytest.mark.parametrize("values, points, copies", [
    (100, 65536, 32), (2**22 // 32, 64, 32), (2**22 // 31, 64, 16), (2**22 // 3, 64, 2), (2**22, 64, 1), (2**30, 64, 1),
    (100, 33, 1), (100, 0, 32)])
def test_copies_divide_the_points_and_stay_small(values, points, copies):
    assert positional.copies_of(values, points) == copies and points % copies == 0


def test_a_cpu_reads_the_planes_themselves():
    planes = torch.ones(3, 2, 4, 4, requires_grad=True)
    assert positional.gradient_copies(planes, torch.zeros(3, 1, 64, 2)) == 1
