"""Depth terms: values by hand, and one sign: nearer is smaller u, and larger inverse depth."""

from dataclasses import replace

import pytest
import torch
from toys import as_leaves, boolean, make_batch, make_inputs, make_outputs, make_rendering, simple_case, sliding_cameras

from semflow.losses.depth import depth_agree, depth_dynamic, depth_static, standardize, surface_density

DEPTHS = torch.tensor([2.0, 4.0, 5.0, 8.0])  # of four surfaces: u = 1 - 1/z in NDC


def case(rendered, moving_only=False, static=None, **batch):
    """Four rays whose dynamic rendering is as deep as `rendered` (4,) says."""
    cameras = sliding_cameras()
    rays = make_batch(cameras, torch.full((4, 2), 4.0), **batch)
    views = {"dynamic_view": replace(make_rendering(rendered[:, None], torch.ones(4, 1)), depth=rendered)}
    if static is not None:
        views["static_view"] = replace(views["dynamic_view"], depth=static)
    outputs = make_outputs(rays, rendered.detach()[:, None], torch.ones(4, 1), **views)
    return make_inputs(cameras, outputs, rays, moving_only)


def test_standardize_by_hand():
    torch.testing.assert_close(standardize(torch.tensor([1.0, 2.0, 6.0])), torch.tensor([-0.6, 0.0, 2.4]))
    assert standardize(torch.full((3,), 0.7)).tolist() == [0.0, 0.0, 0.0]


def test_true_depth_explains_inverse_depth_of_any_scale_and_shift():
    true_u = 1 - 1 / DEPTHS
    disparity = 700.0 / DEPTHS + 40.0
    assert float(depth_dynamic(case(true_u, disparity=disparity))) == pytest.approx(0.0, abs=1e-8)
    assert float(depth_dynamic(case(0.2 * true_u + 0.1, disparity=disparity))) == pytest.approx(0.0, abs=1e-8)


def test_the_right_order_costs_less_than_the_turned_one():
    true_u = 1 - 1 / DEPTHS
    batch = {"disparity": 1 / DEPTHS, "surface_u": true_u}
    for metric in (False, True):
        right, flat, turned = (
            float(depth_dynamic(case(u, surface_metric=metric, **batch)))
            for u in (true_u, true_u.mean().expand(4), true_u.flip(0)))
        assert right < 1e-8 < flat < turned


def test_gradients_bring_a_surface_that_is_too_deep_forward():
    true_u = 1 - 1 / DEPTHS
    rendered = (true_u + torch.tensor([0.3, 0.0, 0.0, 0.0])).requires_grad_()
    depth_dynamic(case(rendered, disparity=1 / DEPTHS)).backward()
    assert rendered.grad[0] > 0


def test_calibrated_surfaces_are_compared_as_they_are():
    rendered, surface = torch.tensor([0.5, 0.6, 0.7, 0.8]), torch.tensor([0.6, 0.6, 0.9, 0.0])
    batch = {"surface_u": surface, "surface_metric": True, "disparity": torch.zeros(4)}
    assert float(depth_dynamic(case(rendered, **batch))) == pytest.approx((0.1 + 0.0 + 0.2 + 0.8) / 4)
    moving = case(rendered, moving_only=True, moving=boolean(0, 0, 1, 1), **batch)
    assert float(depth_dynamic(moving)) == pytest.approx((0.2 + 0.8) / 2)


def test_weights_along_a_ray_are_pulled_to_the_calibrated_surface():
    batch = {"surface_u": torch.tensor([0.5, 0.8]), "surface_metric": True}
    weights = torch.tensor([[0.25, 0.5, 0.25]] * 2, requires_grad=True)
    view = make_rendering(torch.tensor([[0.2, 0.5, 0.8]] * 2), weights)
    value = depth_dynamic(simple_case(batch=batch, dynamic_view=view))
    assert value.item() == pytest.approx((0.25 * 0.3 + 0.25 * 0.3 + 0.25 * 0.6 + 0.5 * 0.3) / 2)
    value.backward()
    torch.testing.assert_close(weights.grad, torch.tensor([[0.3, 0.0, 0.3], [0.6, 0.3, 0.0]]) / 2)


@pytest.mark.parametrize("moving", [boolean(0, 0), boolean(0, 1)])
def test_too_few_moving_pixels_to_order_give_zero(moving):
    inputs = simple_case(batch={"moving": moving, "disparity": DEPTHS[:2]}, moving_only=True)
    value = depth_dynamic(replace(inputs, outputs=as_leaves(inputs.outputs)))
    assert value.item() == 0.0 and not value.requires_grad


def test_static_depth_is_compared_at_triangulated_pixels():
    found = {"triangulated_u": torch.tensor([0.2, 0.9]), "triangulated_valid": boolean(1, 0)}
    assert float(depth_static(simple_case(batch=found))) == pytest.approx(0.3)
    found["triangulated_valid"] = boolean(1, 1)
    assert float(depth_static(simple_case(batch=found))) == pytest.approx((0.3 + 0.4) / 2)


def test_surface_density_wants_full_weight_at_the_surface():
    found = {"triangulated_u": torch.tensor([0.5, 0.5]), "triangulated_valid": boolean(1, 0)}
    assert float(surface_density(simple_case(batch=found))) == pytest.approx(0.5 * 0.09)
    u = torch.tensor([[0.2, 0.5, 0.8]] * 2)
    concentrated = make_rendering(u, torch.tensor([[0.0, 1.0, 0.0]] * 2))
    assert float(surface_density(simple_case(batch=found, static_view=concentrated))) == pytest.approx(0.0, abs=1e-7)
    empty = make_rendering(u, torch.zeros(2, 3))
    assert float(surface_density(simple_case(batch=found, static_view=empty))) == pytest.approx(1.0)


def test_dynamic_depth_follows_the_static_one_on_static_rays_and_never_the_other_way():
    rendered = torch.tensor([0.5, 0.6, 0.7, 0.8], requires_grad=True)
    static = torch.tensor([0.4, 0.6, 0.9, 0.0], requires_grad=True)
    value = depth_agree(case(rendered, static=static, moving=boolean(0, 0, 0, 1)))
    assert value.item() == pytest.approx((0.01 + 0.0 + 0.04) / 3)
    value.backward()
    assert static.grad is None
    torch.testing.assert_close(rendered.grad, torch.tensor([0.2, 0.0, -0.4, 0.0]) / 3, atol=1e-6, rtol=0)
