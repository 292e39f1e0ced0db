"""Agreement of a flow with the flow back."""

import torch

from semflow.geometry.cameras import pixel_centres
from semflow.geometry.optical_flow import consistent

H, W = 10, 14


def constant(x: float, y: float) -> torch.Tensor:
    return torch.tensor([x, y]).expand(H, W, 2)


def test_a_flow_and_its_inverse_agree_but_where_they_leave_the_image():
    found = consistent(constant(3.0, 0.0), constant(-3.0, 0.0))
    assert found[:, : W - 3].all() and not found[:, W - 3 :].any()
    found = consistent(constant(0.0, -2.5), constant(0.0, 2.5))
    assert found[3:].all() and not found[:2].any()


def test_the_tolerance_grows_with_the_length():
    """Squared error against 0.01 of the squared lengths, and 0.5."""
    assert consistent(constant(0.0, 0.0), constant(0.7, 0.0)).all()  # 0.49 < 0.5 + 0.0049
    assert not consistent(constant(0.0, 0.0), constant(0.72, 0.0)).any()  # 0.518 > 0.505
    middle = consistent(constant(5.0, 0.0), constant(-4.2, 0.0))[:, :8]  # 0.64 < 0.5 + 0.01 (25 + 17.6)
    assert middle.all()
    assert not consistent(constant(5.0, 0.0), constant(-4.0, 0.0))[:, :8].any()  # 1 > 0.91


def test_the_flow_back_is_read_where_the_pixel_went():
    back = constant(-4.0, 0.0).clone()
    back[:, 8:] = 0
    found = consistent(constant(4.0, 0.0), back)
    assert found[:, :4].all() and not found[:, 5:].any()


def test_pixel_centres_lie_at_half_integers():
    centres = pixel_centres(2, 3)
    assert centres.shape == (2, 3, 2)
    assert centres[1, 2].tolist() == [2.5, 1.5]
