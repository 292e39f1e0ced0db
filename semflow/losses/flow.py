"""Flow terms: the scene flow explains the optical flow, is small, smooth and reversible."""

from __future__ import annotations

from torch import Tensor

from semflow.geometry.spaces import Space
from semflow.losses.base import LossInputs, loss_term, masked_mean, mean


def per_ray(values: Tensor, inputs: LossInputs) -> Tensor:
    """(R*S, 3) point values -> (R, S, 3)."""
    return values.view(*inputs.outputs.u.shape, 3)


def induced_flow(inputs: LossInputs, offset: int) -> tuple[Tensor, Tensor]:
    """Optical flow to the neighbouring frame that the rendered scene flow explains.

    The expected position at t+offset along the ray, projected into the camera of t+offset, minus the pixel.

    Returns:
        (R, 2) pixels, and (R,) bool: it lies in front of that camera.
    """
    outputs, scene = inputs.outputs, inputs.scene
    weights = outputs.dynamic_view.weights
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-3)
    moved = per_ray(outputs.track.positions[offset], inputs)
    rest = (1.0 - weights.sum(1, keepdim=True)).clamp(min=0.0)  # an empty ray explains the flow of its far end
    expected = (weights[..., None] * moved).sum(1) + rest * moved[:, -1]
    uv, in_front = scene.cameras.project(scene.space.to_world(expected), outputs.frame + offset)
    return uv - outputs.rays.uv, in_front


def optical_flow_error(inputs: LossInputs, offset: int) -> Tensor:
    """L1 between induced and given optical flow on consistent pixels, in pixels."""
    if offset not in inputs.outputs.track.positions:
        return inputs.batch.rgb.new_zeros(())
    flow, in_front = induced_flow(inputs, offset)
    error = (flow - inputs.batch.flow[offset]).abs()
    return masked_mean(error, inputs.batch.flow_valid[offset] & in_front & inputs.dynamic_rays)


@loss_term("flow_forward", dynamic=True, track=True)
def flow_forward(inputs: LossInputs) -> Tensor:
    """Optical flow to t+1."""
    return optical_flow_error(inputs, 1)


@loss_term("flow_backward", dynamic=True, track=True)
def flow_backward(inputs: LossInputs) -> Tensor:
    """Optical flow to t-1."""
    return optical_flow_error(inputs, -1)


def neighbour_offsets(inputs: LossInputs) -> list[int]:
    """Offsets -1 and +1, as far as they exist."""
    return [offset for offset in (-1, 1) if offset in inputs.outputs.track.positions]


@loss_term("flow_small", track=True, dynamic=True)
def flow_small(inputs: LossInputs) -> Tensor:
    """Small scene flow, L1 in field units."""
    track = inputs.outputs.track
    terms = [mean(track.displacement(offset).abs()) for offset in neighbour_offsets(inputs)]
    return sum(terms, inputs.batch.rgb.new_zeros(()))


def bend(positions: dict[int, Tensor], start: Tensor, space: Space) -> Tensor:
    """() mean second difference of tracks at offsets -1, 0, +1, L1 in world units; those that start (N, 3) far off count 0.

    An NDC ray may run to infinity, where a trifle in NDC is a long way in the world: behind the far bound, at the last of
    its samples, would lie all of the mean.
    """
    before, here, after = (space.to_world(positions[offset]) for offset in (-1, 0, 1))
    return mean((after + before - 2 * here).abs() * space.bounded(start)[..., None])


@loss_term("flow_smooth_time", track=True, dynamic=True)
def flow_smooth_time(inputs: LossInputs) -> Tensor:
    """Constant velocity: in world space the forward flow is the opposite of the backward flow, L1."""
    if len(neighbour_offsets(inputs)) < 2:
        return inputs.batch.rgb.new_zeros(())
    positions = inputs.outputs.track.positions
    return bend(positions, positions[0], inputs.scene.space)


@loss_term("flow_smooth_ray", track=True, dynamic=True)
def flow_smooth_ray(inputs: LossInputs) -> Tensor:
    """Neighbouring samples of a ray move alike, L1 in field units."""
    track = inputs.outputs.track
    flows = [per_ray(track.displacement(offset), inputs) for offset in neighbour_offsets(inputs)]
    return sum((mean(flow.diff(dim=1).abs()) for flow in flows), inputs.batch.rgb.new_zeros(()))


@loss_term("flow_smooth_second", dynamic=True, second_track=True)
def flow_smooth_second(inputs: LossInputs) -> Tensor:
    """Second-order smoothness of the tracks that start at the moved points of t-1 and t+1, L1 in world units."""
    total, outputs = inputs.batch.rgb.new_zeros(()), inputs.outputs
    for neighbour in outputs.neighbours.values():
        positions = neighbour.track.positions
        if -1 in positions and 1 in positions:
            start = per_ray(outputs.track.positions[0], inputs)[neighbour.rays].flatten(0, 1)
            total = total + bend(positions, start, inputs.scene.space)
    return total


@loss_term("flow_cycle", dynamic=True, second_track=True)
def flow_cycle(inputs: LossInputs) -> Tensor:
    """There and back: the flow from t+1 back to t ends where it began, and likewise from t-1. L1 in field units."""
    total = inputs.batch.rgb.new_zeros(())
    outputs = inputs.outputs
    for offset, neighbour in outputs.neighbours.items():
        start = per_ray(outputs.track.positions[0], inputs)[neighbour.rays].flatten(0, 1)
        total = total + mean((neighbour.track.positions[-offset] - start).abs())
    return total


@loss_term("flow_zero_static", track=True, dynamic=True)
def flow_zero_static(inputs: LossInputs) -> Tensor:
    """No flow on static rays, L2 in field units."""
    track = inputs.outputs.track
    flows = [per_ray(track.displacement(offset), inputs) for offset in neighbour_offsets(inputs)]
    terms = [masked_mean(flow.square().sum(-1), ~inputs.batch.moving) for flow in flows]
    return sum(terms, inputs.batch.rgb.new_zeros(()))
