"""Confusion matrix against scikit-learn; IoU and accuracies against numbers worked out by hand."""

import math

import pytest
import torch
from sklearn import metrics as sklearn

from semflow.metrics.segmentation import (
    background_id,
    class_accuracy,
    class_iou,
    class_mean,
    class_recall,
    confusion_matrix,
    mean_iou,
    merge_background,
    total_accuracy,
)

CLASSES = 7


@pytest.mark.parametrize("seed", range(8))
def test_random_maps_agree_with_scikit_learn(seed):
    """With classes absent from both (5), only in the prediction (6), only in the truth (4), and unlabelled pixels."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(-1, 5, (13, 17), generator=generator)
    prediction = torch.tensor([0, 1, 2, 3, 6])[torch.randint(0, 5, (13, 17), generator=generator)]
    counted = truth >= 0
    true, predicted = truth[counted].numpy(), prediction[counted].numpy()
    expected = sklearn.confusion_matrix(true, predicted, labels=range(CLASSES))
    confusion = confusion_matrix(truth, prediction, CLASSES)
    assert (confusion.numpy() == expected).all()
    present = sorted({*true, *predicted})
    iou = sklearn.jaccard_score(true, predicted, labels=present, average="macro")
    assert mean_iou(confusion) == pytest.approx(iou, abs=1e-9)
    assert total_accuracy(confusion) == pytest.approx(sklearn.accuracy_score(true, predicted), abs=1e-9)
    recall = sklearn.recall_score(true, predicted, labels=sorted(set(true)), average="macro")
    assert class_accuracy(confusion) == pytest.approx(recall, abs=1e-9)


def test_hand_worked_example():
    truth = torch.tensor([[0, 0, 1], [1, 1, -1]])
    prediction = torch.tensor([[0, 1, 1], [1, 2, 2]])
    confusion = confusion_matrix(truth, prediction, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    iou = class_iou(confusion).tolist()
    assert iou[:3] == pytest.approx([1 / 2, 2 / 4, 0.0]) and math.isnan(iou[3])
    assert mean_iou(confusion) == pytest.approx(1 / 3)  # class 0 counts, the stray class 2 too, class 3 does not
    assert mean_iou(confusion, [1, 3]) == pytest.approx(0.5)
    assert total_accuracy(confusion) == pytest.approx(3 / 5)
    assert class_accuracy(confusion) == pytest.approx((1 / 2 + 2 / 3) / 2)
    recall = class_recall(confusion).tolist()
    assert recall[:2] == pytest.approx([1 / 2, 2 / 3]) and all(map(math.isnan, recall[2:]))  # a stray class has no recall


def test_nothing_labelled_is_none_not_one():
    empty = confusion_matrix(torch.full((2, 2), -1), torch.zeros(2, 2, dtype=torch.int64), 3)
    assert mean_iou(empty) is None and total_accuracy(empty) is None and class_accuracy(empty) is None
    assert class_mean(torch.tensor([0.5]), []) is None


@pytest.mark.parametrize("truth, prediction", [(3, 0), (0, 3), (0, -1), (-2, 0)])
def test_ids_out_of_range_are_refused(truth, prediction):
    with pytest.raises(ValueError, match="class ids"):
        confusion_matrix(torch.tensor([truth]), torch.tensor([prediction]), 3)


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="different shapes"):
        confusion_matrix(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), 2)


def test_merging_the_background_keeps_foreground_and_unlabelled_pixels():
    labels = torch.tensor([[-1, 0, 1], [2, 3, 4]])
    merged = merge_background(labels, [2, 4])
    assert merged.tolist() == [[-1, 0, 0], [2, 0, 4]]
    assert labels.tolist() == [[-1, 0, 1], [2, 3, 4]]
    assert merge_background(labels, []).tolist() == [[-1, 0, 0], [0, 0, 0]]


def test_merging_forgives_confusion_among_background_classes_only():
    truth, prediction = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0, 2, 0])
    merged = confusion_matrix(merge_background(truth, [2]), merge_background(prediction, [2]), 3)
    assert mean_iou(merged) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_background_is_class_0_unless_that_is_foreground():
    assert background_id(4, (1, 2)) == 0
    assert background_id(4, (0, 1)) == 2
