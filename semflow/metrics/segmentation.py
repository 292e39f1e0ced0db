"""Label maps against truth: confusion matrix and what follows from it.

Label maps are int64 class ids; -1 in the truth means "not labelled", such pixels never count. K is the number of
classes; a confusion matrix (K, K) has the truth in its rows and the prediction in its columns. A mean over nothing
is None, never 0 or 1: a class that is absent from truth and prediction says nothing about a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORED = -1


def confusion_matrix(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Count of pixels per (true class, predicted class).

    Args:
        truth: (...) int64 in [-1, K).
        prediction: (...) int64 in [0, K).
        classes: K.

    Returns:
        (K, K) int64.

    Raises:
        ValueError: shapes that differ, or ids out of range (for the prediction: at pixels that count).
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"label maps of different shapes: {tuple(truth.shape)} and {tuple(prediction.shape)}")
    counted = truth != IGNORED
    true, predicted = truth[counted], prediction[counted]
    for name, ids in (("truth", true), ("prediction", predicted)):
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < classes:
            raise ValueError(f"{name} holds class ids {int(ids.min())} to {int(ids.max())}, allowed 0 to {classes - 1}")
    return count_pairs(true, predicted, classes)


def count_pairs(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """`confusion_matrix` of ids that are known to be in range, (N,) each: a GPU is not waited for to look at them."""
    pairs = (truth - IGNORED) * classes + prediction  # what is not labelled counts in a row of its own, the first
    counts = torch.zeros((classes + 1) * classes, dtype=torch.int64, device=pairs.device)
    return counts.index_add_(0, pairs, torch.ones_like(pairs)).view(classes + 1, classes)[1:]


def class_iou(confusion: Tensor) -> Tensor:
    """(..., K) float64 intersection over union per class of (..., K, K); NaN for a class in neither truth nor prediction."""
    hits = confusion.diagonal(dim1=-2, dim2=-1).double()
    union = confusion.sum(-2).double() + confusion.sum(-1).double() - hits
    return hits / union  # 0 / 0 = NaN marks the absent class


def mean_iou(confusion: Tensor, classes: Sequence[int] | None = None) -> float | None:
    """Mean IoU over the classes present in truth or prediction.

    Args:
        confusion: (K, K).
        classes: restricts the mean to these ids; None takes all, class 0 too.
    """
    return class_mean(class_iou(confusion), classes)


def total_accuracy(confusion: Tensor) -> float | None:
    """Share of counted pixels with the right class."""
    total = int(confusion.sum())
    return float(confusion.diagonal().sum()) / total if total else None


def class_accuracy(confusion: Tensor) -> float | None:
    """Mean over the classes of the truth of the share of their pixels that were found."""
    return class_mean(class_recall(confusion))


def class_recall(confusion: Tensor) -> Tensor:
    """(K,) float64 share of each class's true pixels that were found; NaN for a class that the truth does not show."""
    return confusion.diagonal().double() / confusion.sum(1).double()


def merge_background(labels: Tensor, foreground_ids: Sequence[int], background: int = 0) -> Tensor:
    """Copy of a label map (...) in which every class that is no foreground is `background`; -1 stays -1."""
    kept = torch.tensor([IGNORED, *foreground_ids], device=labels.device, dtype=labels.dtype)
    return torch.where(torch.isin(labels, kept), labels, torch.full_like(labels, background))


def background_id(classes: int, foreground_ids: Sequence[int]) -> int:
    """The id that stands for all background: 0, or the first that is no foreground where 0 is one."""
    return next((i for i in range(classes) if i not in foreground_ids), 0)


def class_mean(values: Tensor, classes: Sequence[int] | None = None) -> float | None:
    """Mean of values per class (K,) that are not NaN, of all classes or of those given; None where there is none."""
    chosen = values if classes is None else values[list(classes)]
    defined = chosen[~chosen.isnan()]
    return float(defined.mean()) if defined.numel() else None
