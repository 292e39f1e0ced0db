"""Colour terms: mean squared errors of renderings against the pixels."""

from __future__ import annotations

from torch import Tensor

from semflow.losses.base import LossInputs, loss_term, masked_mean


def squared_error(rendered: Tensor, target: Tensor) -> Tensor:
    """(R,) squared colour error, mean over the channels."""
    return (rendered - target).square().mean(-1)


@loss_term("rgb_full", full=True)
def rgb_full(inputs: LossInputs) -> Tensor:
    """Colour of the blended rendering, where colour may be used."""
    error = squared_error(inputs.outputs.full.rgb, inputs.batch.rgb)
    return masked_mean(error, inputs.batch.color_valid)


@loss_term("rgb_static", static=True)
def rgb_static(inputs: LossInputs) -> Tensor:
    """Colour of the static rendering on static rays."""
    return masked_mean(squared_error(inputs.outputs.static_view.rgb, inputs.batch.rgb), ~inputs.batch.moving)


@loss_term("rgb_dynamic", dynamic=True)
def rgb_dynamic(inputs: LossInputs) -> Tensor:
    """Colour of the dynamic rendering."""
    error = squared_error(inputs.outputs.dynamic_view.rgb, inputs.batch.rgb)
    return masked_mean(error, inputs.batch.color_valid & inputs.dynamic_rays)


@loss_term("rgb_warped", dynamic=True, neighbours=True)
def rgb_warped(inputs: LossInputs) -> Tensor:
    """Colour of the renderings warped from t-1 and t+1: the sum of those that exist."""
    total = inputs.batch.rgb.new_zeros(())
    for neighbour in inputs.outputs.neighbours.values():
        error = squared_error(neighbour.rendering.rgb, inputs.batch.rgb[neighbour.rays])
        total = total + masked_mean(error, inputs.batch.color_valid[neighbour.rays])
    return total
