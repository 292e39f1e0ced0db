"""No update after a loss that is not finite, whether the host looks at once or a step later."""

from __future__ import annotations

import pytest
import torch

from semflow.engine.finite import FiniteGuard, Suspect


class Refused(Exception):
    """What `refuse` raises here."""


def train(late: bool, losses: list[list[float]], norms: tuple[float, ...] = (1.0,) * 9) -> tuple[list[float], list, bool]:
    """Weights after every step with the same gradient, what was refused, and whether it was before the last step."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
    refused, weights = [], []

    def refuse(terms, suspect, own) -> None:
        refused.append((terms, suspect.step, suspect.frame, own is optimizer))
        raise Refused

    guard = FiniteGuard(optimizer, ("a", "b"), refuse, late)
    try:
        for step, values in enumerate(losses):
            weight.grad = torch.ones(1)
            suspect = Suspect(step, {}, frames=[10 * step + number for number in range(len(values))])
            guard.admit(torch.tensor(values), torch.tensor(norms[step]), suspect)
            optimizer.step()
            weights.append(float(weight.detach()))
        guard.settle()
    except Refused:
        return weights, refused, len(weights) < len(losses)
    return weights, refused, False


FINE, BAD = [0.5, 1.0, 2.0], [0.5, float("nan"), 2.0]  # a figure that is no term, and two terms


@pytest.mark.parametrize("late", [False, True])
def test_finite_losses_are_of_no_consequence(late):
    weights, refused, _ = train(late, [[FINE], [FINE], [FINE]])
    assert not refused and weights == pytest.approx([0.9, 0.8, 0.7], abs=1e-4)


def test_at_once_the_step_itself_is_refused():
    weights, refused, before_the_end = train(False, [[FINE], [FINE, BAD], [FINE]])
    assert len(weights) == 1 and before_the_end
    (terms, step, frame, same), = refused
    assert step == 1 and frame == 11 and same and terms["b"] == 2.0 and terms["a"] != terms["a"]


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
@pytest.mark.parametrize("late", [False, True])
def test_finite_losses_with_another_gradient_are_refused(late, norm):
    weights, refused, _ = train(late, [[FINE], [FINE, FINE]], (1.0, norm))
    assert weights == pytest.approx([0.9, 0.9] if late else [0.9], abs=1e-4)
    (terms, step, frame, _), = refused
    assert step == 1 and frame == 10 and list(terms)[-1] == "gradient" and terms["gradient"] != 1.0 and terms["a"] == 1.0


def test_the_frame_is_that_of_the_loss_when_both_are_not_finite():
    _, refused, _ = train(False, [[FINE, BAD]], (float("nan"),))
    assert refused[0][2] == 1


def test_late_nothing_is_updated_until_the_host_has_seen_it():
    weights, refused, before_the_end = train(True, [[FINE], [FINE, BAD], [FINE], [FINE]])
    assert len(weights) == 2 and weights[1] == weights[0] and before_the_end and refused[0][1:3] == (1, 11)


def test_a_last_step_is_looked_at_in_the_end():
    weights, refused, _ = train(True, [[FINE], [BAD]])
    assert len(weights) == 2 and weights[1] == weights[0] and refused[0][1] == 1


def test_all_updates_after_a_failure_are_switched_off():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
    guard = FiniteGuard(optimizer, ("a",), lambda *_: None, late=True)  # a host that never minds
    for step, value in enumerate((float("inf"), 1.0, 1.0)):
        weight.grad = torch.ones(1)
        guard.admit(torch.tensor([[value]]), torch.tensor(1.0), Suspect(step, {}, frames=[0]))
        optimizer.step()
        assert float(weight.detach()) == 1.0
