"""Depth terms. One convention: depth grows away from the camera, as the ray parameter u does."""

from __future__ import annotations

from torch import Tensor

from semflow.losses.base import LossInputs, loss_term, masked_mean
from semflow.utils.ranks import gather_rows


def standardize(values: Tensor) -> Tensor:
    """(R,) values less their median, divided by their mean absolute deviation from it (MiDaS)."""
    centred = values - values.median()
    return centred / centred.abs().mean().clamp(min=1e-6)


@loss_term("depth_dynamic", dynamic=True)
def depth_dynamic(inputs: LossInputs) -> Tensor:
    """Depth of the dynamic rendering against monocular depth.

    Where only the order is known, both are median/MAD-normalised, the inverse depth with its sign turned, and compared
    by squared error. A calibrated surface says more: the mean distance in u of the weights along the ray from it.
    """
    view, batch, whole = inputs.outputs.dynamic_view, inputs.batch, inputs.whole
    if batch.surface_metric:
        distance = (view.weights * (inputs.outputs.u - batch.surface_u[:, None]).abs()).sum(1)
        return masked_mean(distance, inputs.dynamic_rays)
    first = whole.still if inputs.moving_only else 0
    if len(whole.rays) - first < 2:
        return batch.rgb.new_zeros(())
    depth = gather_rows(view.depth, len(whole.rays))  # median and deviation are those of all ranks' rays
    return (standardize(depth[first:]) - standardize(-whole.disparity[first:])).square().mean()


@loss_term("depth_static", static=True)
def depth_static(inputs: LossInputs) -> Tensor:
    """Depth of the static rendering at triangulated pixels, absolute error in u."""
    error = (inputs.outputs.static_view.depth - inputs.batch.triangulated_u).abs()
    return masked_mean(error, inputs.batch.triangulated_valid)


@loss_term("surface_density", static=True)
def surface_density(inputs: LossInputs) -> Tensor:
    """Static weights away from the triangulated surface, weighted by their squared distance in u, count as error."""
    outputs, batch = inputs.outputs, inputs.batch
    distance = (outputs.u - batch.triangulated_u[:, None]).square()
    spread = (outputs.static_view.weights * distance).sum(1) + (1.0 - outputs.static_view.opacity).square()
    return masked_mean(spread, batch.triangulated_valid)


@loss_term("depth_agree", static=True, dynamic=True)
def depth_agree(inputs: LossInputs) -> Tensor:
    """On static rays the dynamic rendering is as deep as the static one, squared error."""
    error = inputs.outputs.dynamic_view.depth - inputs.outputs.static_view.depth.detach()
    return masked_mean(error.square(), ~inputs.batch.moving)
