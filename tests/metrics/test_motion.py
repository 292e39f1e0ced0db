"""End-point error."""

import pytest
import torch

from semflow.metrics.motion import end_point_error, track_error


def test_mean_distance_over_valid_pixels_only():
    flow = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [1.0, 1.0]]])
    truth = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [float("nan"), 0.0]]])
    assert end_point_error(flow, truth, torch.tensor([[True, True, False]])) == pytest.approx(3.0)


def test_nothing_valid_is_none():
    zeros = torch.zeros(2, 2, 2)
    assert end_point_error(zeros, zeros, torch.zeros(2, 2, dtype=torch.bool)) is None
    assert end_point_error(zeros, zeros) == 0.0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="end_point_error"):
        end_point_error(torch.zeros(2, 2, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="valid"):
        end_point_error(torch.zeros(2, 2, 2), torch.zeros(2, 2, 2), torch.ones(2, dtype=torch.bool))


def test_track_errors_count_only_what_is_asked_for():
    truth = torch.tensor([[0.0, 0.0], [0.0, 0.0], [float("nan"), 0.0]])
    error = track_error(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]), truth, torch.tensor([True, True, False]))
    assert error.places == 2 and error.mean == pytest.approx(3.0) and error.within == {1: 0.5, 3: 0.5, 5: 1.0}
    assert track_error(truth, truth, torch.zeros(3, dtype=torch.bool)).within == {1: None, 3: None, 5: None}


def test_the_median_of_two_tracks_lies_between_them():
    uv = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert track_error(uv, torch.zeros(2, 2), torch.ones(2, dtype=torch.bool)).median == 2.0
