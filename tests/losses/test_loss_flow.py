"""Flow terms against closed forms: induced flow of still and moving points, and tracks worked out by hand."""

from dataclasses import replace

import pytest
import torch
from toys import (
    boolean,
    make_batch,
    make_inputs,
    make_neighbour,
    make_outputs,
    ndc_of,
    simple_case,
    sliding_cameras,
    turning_cameras,
)

from semflow.losses.flow import (
    flow_backward,
    flow_cycle,
    flow_forward,
    flow_small,
    flow_smooth_ray,
    flow_smooth_second,
    flow_smooth_time,
    flow_zero_static,
    induced_flow,
)
from semflow.records import FlowTrack

STEP, FOCAL, HALF = 0.1, 10.0, 4.0  # of `sliding_cameras`: camera step, focal length and half the image width


def at_depths(depths, cameras=None, frame=1, weight=1.0, **batch):
    """One ray per depth, with one surface there: in NDC a depth z of a camera at z = 0 is u = 1 - 1/z."""
    cameras = cameras or sliding_cameras()
    uv = torch.tensor([[3.0, 5.0]]).repeat(len(depths), 1)
    rays = make_batch(cameras, uv, frame, **batch)
    surface = 1 - 1 / torch.tensor(depths)
    u = torch.stack([0.5 * surface, surface, 0.5 * surface + 0.5], dim=1)
    weights = torch.tensor([[0.0, weight, 0.0]]).repeat(len(depths), 1)
    return make_inputs(cameras, make_outputs(rays, u, weights, len(cameras)), rays)


def moved(inputs, shifts):
    """The same case with track positions shifted in field space: offset -> (3,) or (R*S, 3)."""
    positions = dict(inputs.outputs.track.positions)
    for offset, shift in shifts.items():
        positions[offset] = positions[offset] + torch.as_tensor(shift)
    return replace(inputs, outputs=replace(inputs.outputs, track=FlowTrack(inputs.outputs.frame, positions)))


@pytest.mark.parametrize(("offset", "sign"), [(1, -1), (-1, 1)])
def test_a_still_point_flows_against_the_camera_by_focal_times_step_over_depth(offset, sign):
    flow, in_front = induced_flow(at_depths([2.0, 4.0, 5.0]), offset)
    expected = sign * FOCAL * STEP / torch.tensor([2.0, 4.0, 5.0])
    torch.testing.assert_close(flow[:, 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(flow[:, 1], torch.zeros(3), atol=1e-5, rtol=0)
    assert in_front.all()


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_still_point_seen_by_turning_cameras_moves_as_its_projection(offset):
    cameras = turning_cameras()
    uv = torch.tensor([[3.5, 2.5], [8.0, 6.0], [12.5, 9.5]])
    batch = make_batch(cameras, uv)
    points = cameras.lift(uv, torch.tensor([2.5, 3.5, 6.0]), 1)
    u = ndc_of(cameras).ray_parameter(ndc_of(cameras).from_world(points), cameras, 1)[:, None]
    flow, _ = induced_flow(make_inputs(cameras, make_outputs(batch, u, torch.ones_like(u)), batch), offset)
    torch.testing.assert_close(flow, cameras.project(points, 1 + offset)[0] - uv, atol=2e-4, rtol=0)


def test_motion_in_ndc_adds_half_the_image_width_per_unit():
    still, shifted = at_depths([2.0, 5.0]), moved(at_depths([2.0, 5.0]), {1: [0.1, 0.0, 0.0]})
    motion = induced_flow(shifted, 1)[0] - induced_flow(still, 1)[0]
    torch.testing.assert_close(motion, torch.tensor([[0.1 * HALF, 0.0]] * 2), atol=1e-5, rtol=0)


def test_a_faint_ray_flows_like_an_opaque_one_and_an_empty_one_like_its_far_end():
    opaque, faint, empty = (induced_flow(at_depths([2.0], weight=w), 1)[0] for w in (1.0, 0.1, 0.0))
    torch.testing.assert_close(faint, opaque, atol=1e-5, rtol=0)
    far_end = 1 / (1 - 0.75)  # the last sample lies at u = 0.75
    assert float(empty[0, 0]) == pytest.approx(-FOCAL * STEP / far_end, abs=1e-5)


def test_optical_flow_error_is_the_mean_absolute_difference_on_consistent_pixels():
    target = torch.tensor([[-0.5, 0.0], [-0.2, 0.4]])  # right for the first ray, (0, 0.4) off for the second
    for term, offset, sign in ((flow_forward, 1, 1), (flow_backward, -1, -1)):
        flow = {offset: target * torch.tensor([sign, 1.0]), -offset: torch.full((2, 2), 9.0)}
        inputs = at_depths([2.0, 5.0], flow=flow)
        assert float(term(inputs)) == pytest.approx(0.1, abs=1e-5)
        first = at_depths([2.0, 5.0], flow=flow, flow_valid={1: boolean(1, 0), -1: boolean(1, 0)})
        assert float(term(first)) == pytest.approx(0.0, abs=1e-5)


def test_points_behind_the_other_camera_do_not_count():
    """Camera 2 has advanced beyond the surface that camera 1 sees."""
    cameras = sliding_cameras()
    c2w = cameras.c2w.clone()
    c2w[2, 2, 3] = -3.0
    target = {1: torch.full((2, 2), 100.0), -1: torch.zeros(2, 2)}
    inputs = at_depths([2.0, 5.0], replace(cameras, c2w=c2w), flow=target)
    flow, in_front = induced_flow(inputs, 1)
    assert in_front.tolist() == [False, True] and flow.isfinite().all()
    assert float(flow_forward(inputs)) == pytest.approx(float((flow[1] - 100.0).abs().mean()))


def test_the_error_pulls_the_flow_towards_the_given_one():
    shift = torch.zeros(3, requires_grad=True)
    inputs = moved(at_depths([2.0], flow={1: torch.tensor([[1.0, 0.0]]), -1: torch.zeros(1, 2)}), {1: shift})
    flow_forward(inputs).backward()
    assert shift.grad[0] < 0  # the point has to move to the right
    assert float(shift.grad[0]) == pytest.approx(-HALF / 2, abs=1e-4)


def test_small_flow_is_the_mean_absolute_displacement_of_each_direction():
    assert float(flow_small(simple_case())) == 0.0
    inputs = moved(simple_case(), {1: [0.3, 0.0, 0.0], -1: [0.0, -0.6, 0.0]})
    assert float(flow_small(inputs)) == pytest.approx(0.1 + 0.2)
    assert float(flow_small(moved(simple_case(frame=0), {1: [0.3, 0.0, 0.0]}))) == pytest.approx(0.1)


def test_constant_velocity_is_smooth_in_the_world_not_in_ndc():
    space = ndc_of(sliding_cameras())
    inputs = simple_case()
    here = space.to_world(inputs.outputs.track.positions[0])
    velocity = torch.tensor([0.06, -0.03, -0.3])

    def with_speeds(backward, forward):
        positions = {-1: space.from_world(here - backward * velocity), 0: inputs.outputs.track.positions[0],
                     1: space.from_world(here + forward * velocity)}
        return replace(inputs, outputs=replace(inputs.outputs, track=FlowTrack(1, positions)))

    assert float(flow_smooth_time(with_speeds(1, 1))) == pytest.approx(0.0, abs=1e-5)
    assert float(flow_smooth_time(with_speeds(2, 1))) == pytest.approx(0.13, abs=1e-5)  # mean of |velocity|
    ndc_uniform = moved(inputs, {1: [0.0, 0.0, 0.1], -1: [0.0, 0.0, -0.1]})
    assert float(flow_smooth_time(ndc_uniform)) > 0.01


def test_smoothness_along_the_ray_is_the_mean_difference_of_neighbouring_samples():
    shift = torch.zeros(2, 3, 3)
    shift[:, 1:, 0] = 0.6  # the second and third sample move, the first does not
    inputs = moved(simple_case(), {1: shift.view(-1, 3)})
    assert float(flow_smooth_ray(inputs)) == pytest.approx(0.6 / 2 / 3)
    alike = moved(simple_case(), {1: [0.3, 0.2, 0.1], -1: [0.5, 0.0, 0.0]})
    assert float(flow_smooth_ray(alike)) == pytest.approx(0.0, abs=1e-6)


def neighbours_of(inputs, frames, **options):
    u, weights = inputs.outputs.u, inputs.outputs.full.weights
    found = {offset: make_neighbour(inputs.batch, u, weights, offset, frames, **options) for offset in (-1, 1)}
    return replace(inputs, outputs=replace(inputs.outputs, neighbours=found))


def test_second_order_smoothness_measures_the_bend_of_the_moved_tracks_in_the_world():
    """At u = 0.2, 0.5, 0.8 the depths are 1.25, 2 and 5: a bend of 0.1 in NDC x is 0.1 z / 2.5 in the world."""
    inputs = neighbours_of(simple_case(frame=2, frames=5), 5, bend=(0.1, 0.0, 0.0))
    assert float(flow_smooth_second(inputs)) == pytest.approx(2 * (0.05 + 0.08 + 0.2) / 3 / 3, rel=1e-4)
    assert float(flow_smooth_second(neighbours_of(simple_case(frame=2, frames=5), 5))) == pytest.approx(0.0, abs=1e-6)
    at_the_ends = neighbours_of(simple_case(), 3, bend=(0.1, 0.0, 0.0))  # neither neighbour has both of its own
    assert float(flow_smooth_second(at_the_ends)) == 0.0


def test_bends_behind_the_far_bound_count_nothing():
    """The third of the samples lies behind it: without that rule it would be three fifths of the mean."""
    inputs = neighbours_of(simple_case(frame=2, frames=5), 5, bend=(0.1, 0.0, 0.0))
    near = replace(inputs, scene=replace(inputs.scene, space=replace(inputs.scene.space, u_bound=0.7)))
    assert float(flow_smooth_second(near)) == pytest.approx(2 * (0.05 + 0.08) / 3 / 3, rel=1e-4)
    bent = {offset: [0.1, 0.0, 0.0] for offset in (-1, 1)}
    whole, first = (float(flow_smooth_time(moved(each, bent))) for each in (inputs, near))
    assert first == pytest.approx(whole * 0.13 / 0.33, rel=1e-4)


def test_cycle_is_the_distance_between_start_and_return():
    assert float(flow_cycle(neighbours_of(simple_case(), 3))) == 0.0
    inputs = neighbours_of(simple_case(), 3, shift=(0.3, 0.0, 0.0))  # moved, and no flow back
    assert float(flow_cycle(inputs)) == pytest.approx(2 * 0.1)
    returning = neighbours_of(simple_case(), 3, shift=(-0.3, 0.0, 0.0), bend=(0.3, 0.0, 0.0))  # only from t-1 to t
    assert float(flow_cycle(returning)) == pytest.approx(0.1)


def test_cycle_compares_each_point_with_its_own_start():
    inputs = neighbours_of(simple_case(), 3, rays=slice(1, None))
    assert float(flow_cycle(inputs)) == 0.0
    other_ray = neighbours_of(simple_case(), 3, rays=slice(0, 1)).outputs.neighbours[1]
    wrong = replace(inputs.outputs.neighbours[1], track=other_ray.track)
    inputs = replace(inputs, outputs=replace(inputs.outputs, neighbours={1: wrong}))
    assert float(flow_cycle(inputs)) > 0.01


def test_zero_flow_is_asked_of_static_rays_only():
    shift = torch.zeros(2, 3, 3)
    shift[0], shift[1] = torch.tensor([0.3, 0.4, 0.0]), 7.0
    inputs = moved(simple_case(batch={"moving": boolean(0, 1)}), {1: shift.view(-1, 3)})
    assert float(flow_zero_static(inputs)) == pytest.approx(0.25)
    inputs = moved(inputs, {-1: shift.view(-1, 3)})
    assert float(flow_zero_static(inputs)) == pytest.approx(0.5)
