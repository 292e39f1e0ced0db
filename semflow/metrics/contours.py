"""Quality of outlines: boundary IoU, and J and F of DAVIS.

Masks are (H, W) bool. Label maps are int64, -1 in the truth = not labelled: such pixels are taken out of both maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from semflow.metrics.segmentation import IGNORED

BOUNDARY_SHARE = 0.02  # of the image diagonal: width of the band of boundary IoU (Cheng et al. 2021)
CONTOUR_SHARE = 0.008  # of the image diagonal: tolerance of the contour accuracy (Perazzi et al. 2016)


@dataclass(frozen=True)
class ObjectScore:
    """One object of one image.

    Attributes:
        region: J, intersection over union, in [0, 1].
        contour: F, harmonic mean of contour precision and recall, in [0, 1].
    """

    region: float
    contour: float


def boundary_iou(truth: Tensor, prediction: Tensor, classes: int, share: float = BOUNDARY_SHARE) -> Tensor:
    """IoU per class of the bands along the inside of its outlines.

    Args:
        truth: (H, W) labels.
        prediction: (H, W) labels.
        classes: K.
        share: width of the band, as a share of the image diagonal (at least one pixel).

    Returns:
        (K,) float64 in [0, 1]; NaN for a class in neither truth nor prediction. See `segmentation.class_mean`.
    """
    true, predicted = _masks(truth, prediction, range(classes))
    width = max(1, round(share * math.hypot(*truth.shape)))
    true, predicted = inner_band(true, width), inner_band(predicted, width)
    # a mask that is not empty has a band that is not empty: 0 / 0 = NaN marks the absent class alone
    return (true & predicted).sum((1, 2)).double() / (true | predicted).sum((1, 2))


def inner_band(masks: Tensor, width: int) -> Tensor:
    """Pixels of the masks (M, H, W) within `width` pixels (chessboard) of the outside; beyond the image is outside."""
    outside = functional.pad((~masks).to(torch.int32), (width,) * 4, value=1)
    near = _window_sums(_window_sums(outside, 1, width), 2, width) > 0  # much faster than pooling
    return masks & near


def _window_sums(values: Tensor, dim: int, width: int) -> Tensor:
    """Sums over windows of 2 width + 1 along `dim`, which becomes 2 width shorter."""
    span, length = 2 * width + 1, values.shape[dim]
    sums = functional.pad(values.cumsum(dim), (1, 0) if dim == 2 else (0, 0, 1, 0))
    return sums.narrow(dim, span, length - span + 1) - sums.narrow(dim, 0, length - span + 1)


def region_similarity(truth: Tensor, prediction: Tensor) -> float:
    """J of DAVIS: intersection over union of two masks; 1 where both are empty."""
    union = int((truth | prediction).sum())
    return int((truth & prediction).sum()) / union if union else 1.0


def contour_accuracy(truth: Tensor, prediction: Tensor, share: float = CONTOUR_SHARE) -> float:
    """F of DAVIS: contour pixels that have one of the other contour within the tolerance; 1 where both are empty.

    Args:
        truth: (H, W) mask.
        prediction: (H, W) mask.
        share: tolerance as a share of the image diagonal, rounded up to whole pixels.
    """
    true, predicted = contour(truth), contour(prediction)
    if not true.any() or not predicted.any():
        return 1.0 if true.any() == predicted.any() else 0.0
    radius = math.ceil(share * math.hypot(*truth.shape))
    near_true, near_predicted = dilate(torch.stack([true, predicted]), radius)
    precision = int((predicted & near_true).sum()) / int(predicted.sum())
    recall = int((true & near_predicted).sum()) / int(true.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: Tensor) -> Tensor:
    """(H, W) bool: pixels unlike their right, lower or lower right neighbour; the mask goes on past the image."""
    padded = functional.pad(mask[None].float(), (0, 1, 0, 1), mode="replicate")[0] > 0.5
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def dilate(masks: Tensor, radius: int) -> Tensor:
    """Masks (M, H, W) grown by a disc of `radius` pixels."""
    offsets = torch.arange(-radius, radius + 1, device=masks.device)
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).float()
    grown = functional.conv2d(masks.float()[:, None], disc[None, None], padding=radius)[:, 0]
    return grown > 0.5


def object_scores(
    truth: Tensor, prediction: Tensor, objects: Sequence[int], share: float = CONTOUR_SHARE
) -> dict[int, ObjectScore]:
    """J and F of each class in `objects` that is present in the truth (H, W) or the prediction (H, W)."""
    true, predicted = _masks(truth, prediction, objects)
    return {
        identity: ObjectScore(region_similarity(t, p), contour_accuracy(t, p, share))
        for identity, t, p in zip(objects, true, predicted)
        if (t | p).any()
    }


def _masks(truth: Tensor, prediction: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Masks (M, H, W) bool of the classes, without the pixels that have no truth."""
    ids = torch.tensor(list(classes), device=truth.device, dtype=truth.dtype)[:, None, None]
    counted = truth != IGNORED
    return (truth == ids) & counted, (prediction == ids) & counted
