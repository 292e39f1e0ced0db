"""Optical flow and tracks of points against truth."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WITHIN = (1, 3, 5)  # pixels


@dataclass(frozen=True)
class TrackError:
    """How far tracked points are from the truth, over all places that count; None where there is none.

    Attributes:
        places: how many count.
        mean, median: end-point error in pixels.
        within: pixels -> share of the places that are no farther off.
    """

    places: int
    mean: float | None
    median: float | None
    within: dict[int, float | None]


def track_error(uv: Tensor, truth: Tensor, counted: Tensor) -> TrackError:
    """Error of tracked places uv (..., 2) in pixels where counted (...) bool; the truth may hold anything elsewhere."""
    distance = (uv[counted].double() - truth[counted].double()).norm(dim=-1)
    if not len(distance):
        return TrackError(0, None, None, dict.fromkeys(WITHIN))
    within = {pixels: float((distance <= pixels).double().mean()) for pixels in WITHIN}
    median = (distance.median() - (-distance).median()) / 2  # torch takes the lower of two in the middle
    return TrackError(len(distance), float(distance.mean()), float(median), within)


def end_point_error(flow: Tensor, truth: Tensor, valid: Tensor | None = None) -> float | None:
    """Mean Euclidean distance in pixels between flow vectors.

    Args:
        flow: (..., 2) pixels.
        truth: (..., 2) pixels; may hold anything, NaN too, where not valid.
        valid: (...) bool, True = counted; None counts all.

    Returns:
        The mean, or None where nothing is valid.

    Raises:
        ValueError: shapes that do not fit.
    """
    if flow.shape != truth.shape or flow.shape[-1] != 2:
        raise ValueError(f"end_point_error needs two (..., 2) flows, got {tuple(flow.shape)} and {tuple(truth.shape)}")
    if valid is not None and valid.shape != flow.shape[:-1]:
        raise ValueError(f"end_point_error: valid is {tuple(valid.shape)}, expected {tuple(flow.shape[:-1])}")
    distance = (flow.double() - truth.double()).square().sum(-1).sqrt()
    counted = distance.flatten() if valid is None else distance[valid]
    return float(counted.mean()) if counted.numel() else None
