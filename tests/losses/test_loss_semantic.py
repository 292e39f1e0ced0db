"""Cross-entropies, worked out by hand."""

import math

import pytest
import torch
from toys import boolean, make_neighbour, make_rendering, simple_case

from semflow.losses.semantic import semantic_dynamic, semantic_full, semantic_static, semantic_track, semantic_warped

LOGITS = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, 0.0]])  # probabilities 1/2, 1/4, 1/4 and thirds
LABELS = torch.tensor([1, 2])
FIRST, SECOND = math.log(4.0), math.log(3.0)


def case(logits=LOGITS, labels=LABELS, moving_only=False, **batch):
    view = make_rendering(torch.full((2, 3), 0.5), torch.full((2, 3), 1 / 3), logits=logits)
    return simple_case(
        batch={"labels": labels} | batch, moving_only=moving_only, full=view, static_view=view, dynamic_view=view)


@pytest.mark.parametrize("term", [semantic_full, semantic_static, semantic_dynamic])
def test_cross_entropy_is_averaged_over_labelled_rays(term):
    assert float(term(case())) == pytest.approx((FIRST + SECOND) / 2)
    assert float(term(case(labels=torch.tensor([-1, 2])))) == pytest.approx(SECOND)
    assert float(term(case(labels=torch.tensor([-1, -1])))) == 0.0


@pytest.mark.parametrize(("term", "moving_only", "counts"), [
    (semantic_static, False, FIRST), (semantic_dynamic, True, SECOND)])
def test_each_field_answers_for_its_rays(term, moving_only, counts):
    assert float(term(case(moving=boolean(0, 1), moving_only=moving_only))) == pytest.approx(counts)


def test_labels_count_where_colours_may_not_be_used():
    assert float(semantic_full(case(color_valid=boolean(0, 0)))) == pytest.approx((FIRST + SECOND) / 2)


@pytest.mark.parametrize("term", [semantic_full, semantic_static, semantic_dynamic])
def test_gradients_raise_the_logit_of_the_label_and_leave_unlabelled_rays_alone(term):
    logits = LOGITS.clone().requires_grad_()
    term(case(logits, torch.tensor([1, -1]))).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5, -0.75, 0.25], [0.0, 0.0, 0.0]]))


def test_warped_logits_explain_the_label_of_their_own_ray():
    plain = case()
    u, weights = plain.outputs.u, plain.outputs.full.weights
    both = {o: make_neighbour(plain.batch, u, weights, o, logits=LOGITS) for o in (-1, 1)}
    value = semantic_warped(simple_case(batch={"labels": LABELS}, neighbours=both))
    assert float(value) == pytest.approx(FIRST + SECOND)
    second = {1: make_neighbour(plain.batch, u, weights, 1, rays=slice(1, None), logits=LOGITS[:1])}
    found = semantic_warped(simple_case(batch={"labels": torch.tensor([0, 1])}, neighbours=second))
    assert float(found) == pytest.approx(FIRST)
    unlabelled = simple_case(batch={"labels": torch.tensor([0, -1])}, neighbours=second)
    assert float(semantic_warped(unlabelled)) == 0.0


def track_case(own, there, still=0, **batch):
    plain = case()
    u, weights = plain.outputs.u, plain.outputs.full.weights
    neighbours = {1: make_neighbour(plain.batch, u, weights, 1, rays=slice(still, None), logits=there)}
    view = make_rendering(torch.full((2, 3), 0.5), torch.full((2, 3), 1 / 3), logits=own)
    moving = torch.arange(2) >= still
    return simple_case(batch={"labels": torch.tensor([-1, -1]), "moving": moving} | batch, dynamic_view=view, neighbours=neighbours)


def test_classes_along_the_flow_are_compared_both_ways_and_without_labels():
    thirds = torch.zeros(2, 3)
    both = (math.log(3.0) - 1.5 * math.log(2.0)) + (5 / 3 * math.log(2.0) - math.log(3.0))  # KL of 1/2, 1/4, 1/4 and thirds
    assert float(semantic_track(track_case(LOGITS, thirds))) == pytest.approx(both / 2, abs=1e-6)  # the second ray agrees
    assert float(semantic_track(track_case(LOGITS + 5.0, LOGITS))) == pytest.approx(0.0, abs=1e-6)
    assert float(semantic_track(track_case(LOGITS[[1, 0]], thirds[:1], still=1))) == pytest.approx(both, abs=1e-6)


def test_classes_are_not_compared_where_the_flow_is_not_consistent():
    hidden = {-1: boolean(1, 1), 1: boolean(0, 1)}
    assert float(semantic_track(track_case(LOGITS, torch.zeros(2, 3), flow_valid=hidden))) == pytest.approx(0.0, abs=1e-6)


def test_each_side_is_drawn_to_the_other():
    own, there = torch.tensor([[2.0, 0.0, 0.0]] * 2, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    semantic_track(track_case(own, there)).backward()
    found = own.detach().softmax(-1)
    torch.testing.assert_close(own.grad, (found - 1 / 3) / 2)  # p - target, in a mean of two rays: the other is held fixed
    torch.testing.assert_close(there.grad, (1 / 3 - found) / 2)
