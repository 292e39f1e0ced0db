"""Blending terms, worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from toys import boolean, make_neighbour, simple_case

from semflow.losses.blending import (
    SURFACE_THICKNESS,
    blend_dynamicness,
    blend_entropy,
    blend_static,
    blend_surface,
    blend_warped_static,
    entropy,
)


def case(blend, moving_only=False, **batch):
    """Rays with samples at u = 0.2, 0.5, 0.8 and the blending (2, 3)."""
    inputs = simple_case(batch=batch, moving_only=moving_only)
    dynamic = replace(inputs.outputs.dynamic, blend=torch.as_tensor(blend))
    return replace(inputs, outputs=replace(inputs.outputs, dynamic=dynamic))


def test_blending_is_small_on_static_rays_only():
    blend = [[0.1, 0.2, 0.3], [0.9, 0.9, 0.9]]
    assert float(blend_static(case(blend, moving=boolean(0, 1)))) == pytest.approx(0.2)
    assert float(blend_static(case(blend, moving=boolean(0, 0)))) == pytest.approx(0.55)


def test_dynamic_share_equals_the_mask():
    still_rays_count = simple_case(moving_only=True, batch={"moving": boolean(0, 1)}, dynamic_share=torch.tensor([0.3, 0.6]))
    assert float(blend_dynamicness(still_rays_count)) == pytest.approx((0.09 + 0.16) / 2)
    share = torch.tensor([0.3, 0.6], requires_grad=True)
    value = blend_dynamicness(simple_case(batch={"moving": boolean(0, 1)}, dynamic_share=share))
    assert value.item() == pytest.approx((0.09 + 0.16) / 2)
    value.backward()
    assert share.grad[0] > 0 > share.grad[1]


def test_entropy_of_probabilities():
    values = entropy(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(values, torch.tensor([0.0, 0.5 * math.log(2.0), 0.0]), atol=2e-6, rtol=0)


def test_blend_entropy_adds_that_of_the_weights_and_that_of_the_blending():
    of_weights = 0.5 * math.log(4.0) + 0.5 * math.log(2.0)
    assert float(blend_entropy(case([[0.5] * 3] * 2))) == pytest.approx(of_weights + math.log(2.0), abs=1e-4)
    assert float(blend_entropy(case([[0.0, 1.0, 0.0]] * 2))) == pytest.approx(of_weights, abs=1e-4)
    of_both = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)  # of the share of the dynamic field and of that of the static one
    assert float(blend_entropy(case([[0.2] * 3] * 2))) == pytest.approx(of_weights + of_both, abs=1e-4)
    nothing_moves = case([[0.0, 1.0, 0.0]] * 2, moving_only=True, moving=boolean(0, 0))
    assert float(blend_entropy(nothing_moves)) == pytest.approx(0.0, abs=1e-4)


def test_blending_lies_at_the_surface_of_moving_rays():
    surface = torch.tensor([0.0, 0.5 + 0.9 * SURFACE_THICKNESS])
    perfect = [[0.7, 0.7, 0.7], [0.0, 1.0, 0.0]]
    assert float(blend_surface(case(perfect, moving=boolean(0, 1), surface_u=surface))) == 0.0
    nowhere = [[0.0] * 3, [0.0] * 3]
    assert float(blend_surface(case(nowhere, moving=boolean(0, 1), surface_u=surface))) == pytest.approx(0.25 / 3)
    in_front = [[0.0] * 3, [0.5, 1.0, 0.0]]
    assert float(blend_surface(case(in_front, moving=boolean(0, 1), surface_u=surface))) == pytest.approx(0.01 / 3)
    beyond = torch.tensor([0.0, 0.5 + 1.1 * SURFACE_THICKNESS])
    assert float(blend_surface(case(nowhere, moving=boolean(0, 1), surface_u=beyond))) == 0.0


def test_blending_after_the_flow_is_small_on_static_rays():
    inputs = simple_case(batch={"moving": boolean(0, 1)})
    u, weights = inputs.outputs.u, inputs.outputs.full.weights
    both = {o: make_neighbour(inputs.batch, u, weights, o, blend=value) for o, value in ((-1, 0.2), (1, 0.3))}
    value = blend_warped_static(simple_case(batch={"moving": boolean(0, 1)}, neighbours=both))
    assert float(value) == pytest.approx(0.5)
    moving = {1: make_neighbour(inputs.batch, u, weights, 1, rays=slice(1, None), blend=0.9)}
    assert float(blend_warped_static(simple_case(batch={"moving": boolean(0, 1)}, neighbours=moving))) == 0.0
