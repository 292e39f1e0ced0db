"""Blending terms: the dynamic field speaks where something moves, at the surface, and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.losses.base import LossInputs, loss_term, masked_mean, mean

SURFACE_THICKNESS = 0.03  # in u, docs/method.md, "Training"
EPSILON = 1e-6


def entropy(probabilities: Tensor) -> Tensor:
    """-p log p, elementwise, for p in [0, 1]."""
    return -probabilities * torch.log(probabilities + EPSILON)


@loss_term("blend_static", dynamic=True)
def blend_static(inputs: LossInputs) -> Tensor:
    """Small blending on static rays."""
    return masked_mean(inputs.outputs.dynamic.blend, ~inputs.batch.moving)


@loss_term("blend_dynamicness", full=True)
def blend_dynamicness(inputs: LossInputs) -> Tensor:
    """The dynamic share of a pixel equals the motion mask, squared error."""
    error = (inputs.outputs.dynamic_share - inputs.batch.moving.float()).square()
    return masked_mean(error, torch.ones_like(inputs.batch.moving))


@loss_term("blend_entropy", dynamic=True)
def blend_entropy(inputs: LossInputs) -> Tensor:
    """Low entropy of the dynamic weights along a ray and of the blending of a sample."""
    blend = inputs.outputs.dynamic.blend
    along = entropy(inputs.outputs.dynamic_view.weights).sum(1)
    return masked_mean(along, inputs.dynamic_rays) + mean(entropy(blend) + entropy(1 - blend))


@loss_term("blend_surface", dynamic=True)
def blend_surface(inputs: LossInputs) -> Tensor:
    """On moving rays b u is u within the thickness of the surface and 0 elsewhere, squared error."""
    u = inputs.outputs.u
    near = (u - inputs.batch.surface_u[:, None]).abs() < SURFACE_THICKNESS
    error = (inputs.outputs.dynamic.blend * u - near * u).square()
    return masked_mean(error, inputs.batch.moving)


@loss_term("blend_warped_static", dynamic=True, neighbours=True)
def blend_warped_static(inputs: LossInputs) -> Tensor:
    """Small blending on static rays after the flow, at t-1 and t+1."""
    total = inputs.batch.rgb.new_zeros(())
    for neighbour in inputs.outputs.neighbours.values():
        total = total + masked_mean(neighbour.samples.blend, ~inputs.batch.moving[neighbour.rays])
    return total
