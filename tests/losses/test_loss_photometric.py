"""Colour terms, worked out by hand."""

import pytest
import torch
from toys import boolean, make_neighbour, make_rendering, simple_case

from semflow.losses.photometric import rgb_dynamic, rgb_full, rgb_static, rgb_warped

RENDERED = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
TARGET = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.3]])
FIRST, SECOND = 0.25 / 3, 0.18 / 3  # squared errors of the two rays, mean over the channels


def case(rgb=RENDERED, moving_only=False, **batch):
    view = make_rendering(torch.full((2, 3), 0.5), torch.full((2, 3), 1 / 3), rgb=rgb)
    views = {"full": view, "static_view": view, "dynamic_view": view}
    return simple_case(batch={"rgb": TARGET} | batch, moving_only=moving_only, **views)


@pytest.mark.parametrize("term", [rgb_full, rgb_static, rgb_dynamic])
def test_squared_error_is_averaged_over_rays_and_channels(term):
    assert float(term(case())) == pytest.approx((FIRST + SECOND) / 2)


@pytest.mark.parametrize(("term", "first_counts"), [
    (rgb_full, {"color_valid": boolean(1, 0)}),
    (rgb_dynamic, {"color_valid": boolean(1, 0)}),
    (rgb_static, {"moving": boolean(0, 1)}),
])
def test_rays_outside_the_mask_do_not_count(term, first_counts):
    assert float(term(case(**first_counts))) == pytest.approx(FIRST)


def test_static_rays_do_not_count_where_moving_ones_alone_do():
    assert float(rgb_dynamic(case(moving_only=True, moving=boolean(0, 1)))) == pytest.approx(SECOND)


def test_full_colour_counts_on_static_and_moving_rays_alike():
    for moving_only in (False, True):
        value = rgb_full(case(moving=boolean(0, 1), moving_only=moving_only))
        assert float(value) == pytest.approx((FIRST + SECOND) / 2)


@pytest.mark.parametrize("term", [rgb_full, rgb_static, rgb_dynamic])
def test_gradients_pull_the_colour_towards_the_target(term):
    rgb = RENDERED.clone().requires_grad_()
    term(case(rgb)).backward()
    torch.testing.assert_close(rgb.grad, (RENDERED - TARGET) * 2 / 6)


def warped(inputs, offsets, **options):
    u, weights = inputs.outputs.u, inputs.outputs.full.weights
    return {offset: make_neighbour(inputs.batch, u, weights, offset, **options) for offset in offsets}


def test_warped_colours_add_up_over_the_neighbours_that_exist():
    plain = case()
    both, one = warped(plain, (-1, 1), rgb=RENDERED), warped(plain, (1,), rgb=RENDERED)
    assert float(rgb_warped(simple_case(batch={"rgb": TARGET}, neighbours=both))) == pytest.approx(FIRST + SECOND)
    assert float(rgb_warped(simple_case(batch={"rgb": TARGET}, neighbours=one))) == pytest.approx((FIRST + SECOND) / 2)
    assert float(rgb_warped(simple_case(batch={"rgb": TARGET}, neighbours={}))) == 0.0


def test_warped_colours_meet_the_target_of_their_own_ray():
    neighbours = warped(case(), (1,), rays=slice(1, None), rgb=RENDERED[:1])
    inputs = simple_case(batch={"rgb": TARGET}, neighbours=neighbours)
    assert float(rgb_warped(inputs)) == pytest.approx((0.25 + 0.18) / 3)
    invalid = simple_case(batch={"rgb": TARGET, "color_valid": boolean(1, 0)}, neighbours=neighbours)
    assert float(rgb_warped(invalid)) == 0.0
