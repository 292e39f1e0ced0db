"""Outlines against small examples worked out by hand, and boundaries against a brute-force search."""

import math

import pytest
import torch

from semflow.metrics.contours import (
    boundary_iou,
    contour,
    contour_accuracy,
    dilate,
    inner_band,
    object_scores,
    region_similarity,
)
from semflow.metrics.segmentation import class_mean


def square(size: int, top: int, left: int, side: int) -> torch.Tensor:
    """(size, size) mask with one filled square."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_inner_band_equals_a_search_around_every_pixel():
    mask = torch.rand(9, 11, generator=torch.Generator().manual_seed(3)) > 0.15
    for width in (1, 2, 3):
        expected = torch.zeros_like(mask)
        for y in range(9):
            for x in range(11):
                window = [
                    0 <= v < 9 and 0 <= u < 11 and bool(mask[v, u])
                    for v in range(y - width, y + width + 1)
                    for u in range(x - width, x + width + 1)
                ]
                expected[y, x] = mask[y, x] and not all(window)
        assert (inner_band(mask[None], width)[0] == expected).all()


def test_boundary_iou_of_a_shifted_square():
    """An image of 20 x 20 has a band of one pixel: 2 squares of side 6, one to the right of the other by 2 pixels."""
    truth, prediction = square(20, 5, 5, 6).long(), square(20, 5, 7, 6).long()
    # the bands are rings of 20 pixels; the top and bottom edges share 4 pixels each, the sides none
    assert boundary_iou(truth, prediction, 3)[1] == pytest.approx(8 / 32)
    assert math.isnan(boundary_iou(truth, prediction, 3)[2])
    assert class_mean(boundary_iou(truth, prediction, 3), [2]) is None
    assert class_mean(boundary_iou(truth, truth, 3)) == 1.0


def test_boundary_iou_of_a_stray_class_is_zero():
    truth, prediction = torch.zeros(20, 20, dtype=torch.int64), square(20, 5, 5, 6).long()
    assert boundary_iou(truth, prediction, 2)[1] == 0.0


def test_contour_lies_left_and_above_a_change():
    mask = square(5, 2, 2, 1)
    assert contour(mask).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert not contour(torch.ones(4, 4, dtype=torch.bool)).any()  # the mask goes on past the image


def test_dilation_by_a_disc():
    grown = dilate(square(7, 3, 3, 1)[None], 2)[0]
    assert grown.sum() == 13
    assert grown[1, 3] and grown[2, 2] and not grown[1, 2]


def test_region_similarity():
    assert region_similarity(square(8, 0, 0, 4), square(8, 0, 2, 4)) == pytest.approx(8 / 24)
    empty = torch.zeros(8, 8, dtype=torch.bool)
    assert region_similarity(empty, empty) == 1.0 and region_similarity(square(8, 0, 0, 4), empty) == 0.0


def test_contour_accuracy_by_hand():
    """Tolerance: ceil(0.008 * 28.3) = 1 pixel. Contours of squares of side 6 are the border of a square of side 7."""
    truth = square(20, 5, 5, 6)
    assert contour_accuracy(truth, truth) == 1.0
    assert contour_accuracy(truth, square(20, 5, 6, 6)) == 1.0  # one pixel to the side is within the tolerance
    # shifted by 3: of the 24 pixels of the ring, 5 of the top row, 5 of the bottom row and the ends of the left column,
    # 12 in all, lie within a pixel of the other ring; the same the other way round
    assert contour_accuracy(truth, square(20, 5, 8, 6)) == pytest.approx(0.5)
    assert contour_accuracy(truth, square(20, 13, 13, 2)) == 0.0


def brute_force_f(truth, prediction, radius):
    """F by measuring every distance."""
    true, predicted = (contour(mask).nonzero().double() for mask in (truth, prediction))
    near = torch.cdist(predicted, true) <= radius
    precision, recall = near.any(1).double().mean(), near.any(0).double().mean()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("shift", [(2, 2), (4, 1), (0, 5)])
def test_contour_accuracy_equals_measuring_every_distance(shift):
    truth, prediction = square(140, 40, 40, 30), square(140, 40 + shift[0], 40 + shift[1], 24)
    assert contour_accuracy(truth, prediction) == pytest.approx(brute_force_f(truth, prediction, radius=2))


def test_contour_accuracy_of_empty_masks():
    empty = torch.zeros(8, 8, dtype=torch.bool)
    assert contour_accuracy(empty, empty) == 1.0
    assert contour_accuracy(square(8, 2, 2, 3), empty) == 0.0 and contour_accuracy(empty, square(8, 2, 2, 3)) == 0.0


def test_object_scores_leave_out_absent_objects_and_ignore_unlabelled_pixels():
    truth = square(20, 5, 5, 6).long()
    prediction = truth.clone()
    truth[15:, 15:] = -1
    prediction[15:, 15:] = 2  # where nothing is known
    scores = object_scores(truth, prediction, (1, 2, 3))
    assert set(scores) == {1}
    assert scores[1].region == 1.0 and scores[1].contour == 1.0


def test_a_stray_object_that_the_truth_does_not_show_scores_nothing():
    truth, prediction = square(20, 5, 5, 6).long(), square(20, 5, 5, 6).long()
    prediction[13:17, 13:17] = 2
    scores = object_scores(truth, prediction, (1, 2, 3))
    assert set(scores) == {1, 2}
    assert scores[2].region == 0.0 and scores[2].contour == 0.0
    missed = object_scores(prediction, truth, (1, 2, 3))
    assert set(missed) == {1, 2} and missed[2] == scores[2]
